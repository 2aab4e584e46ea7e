//! What is wrong with the settings, as its reader meets it: all problems at once.

use std::fmt;
use std::path::PathBuf;

/// Where a value in force comes from; stronger origins are greater.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A dialect's own settings: of a settings module, or of variables of its program.
    Settings {
        /// The setting, such as `REDIS_URL`.
        name: &'static str,
        /// The module; `None`: the environment.
        module: Option<String>,
    },
    /// The configuration file.
    File {
        /// From 1.
        line: usize,
        /// The key as it stands there, such as `defaults.max_workers`.
        key: String,
    },
    /// A variable, by name.
    Environment(String),
    /// A flag, with its dashes.
    Flag(String),
}

impl Origin {
    /// How its reader knows the value: the flag, the variable, or the key at `path`.
    pub(super) fn name<'o>(&'o self, path: &'o str) -> &'o str {
        match self {
            Origin::Default => path,
            Origin::Settings { name, .. } => name,
            Origin::File { key, .. } => key,
            Origin::Environment(name) | Origin::Flag(name) => name,
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The value that is wrong; of two that contradict each other, the stronger one.
    pub origin: Origin,
    /// The path of the key that it is about, such as `pools.mail.max_workers`; empty: the whole file.
    pub key: String,
    /// What was found and what was expected.
    pub message: String,
    /// What to do about it, when that is not plain from the message.
    pub hint: Option<String>,
}

/// Everything that is wrong with the settings; the program ends with exit code 2.
///
/// Prints as the rest of `error: cannot …: `: a count with the sources, then a line a problem, then hints.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    file: Option<PathBuf>,
    problems: Vec<Problem>,
}

impl ConfigErrors {
    /// Of the settings with this file, if there is one; at least one problem.
    pub(super) fn new(file: Option<PathBuf>, mut problems: Vec<Problem>) -> Self {
        assert!(!problems.is_empty(), "an error without a problem");
        problems.sort();
        problems.dedup();
        ConfigErrors { file, problems }
    }

    /// The problems in the order of the file, then variables, then flags.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Where problems are: the file, the environment, flags.
    fn sources(&self) -> String {
        let any = |is: fn(&Origin) -> bool| self.problems.iter().any(|problem| is(&problem.origin));
        let mut sources = Vec::new();
        if let (Some(file), true) = (&self.file, any(|origin| matches!(origin, Origin::File { .. }))) {
            sources.push(format!("`{}`", file.display()));
        }
        let module = |problem: &Problem| match &problem.origin {
            Origin::Settings { module, .. } => module.clone(),
            _ => None,
        };
        if let Some(module) = self.problems.iter().find_map(module) {
            sources.push(format!("the settings module `{module}`"));
        }
        if any(|origin| {
            matches!(
                origin,
                Origin::Environment(_) | Origin::Settings { module: None, .. }
            )
        }) {
            sources.push("the environment".to_owned());
        }
        if any(|origin| matches!(origin, Origin::Flag(_))) {
            sources.push("the flags".to_owned());
        }
        match sources.split_last() {
            // Something is missing that nobody gave: it is in none of them.
            _ if any(|origin| *origin == Origin::Default) => "the settings".to_owned(),
            None => "the settings".to_owned(),
            Some((only, [])) => only.clone(),
            Some((last, first)) => format!("{} and {last}", first.join(", ")),
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        write!(
            f,
            "{count} problem{} in {}",
            if count == 1 { "" } else { "s" },
            self.sources()
        )?;
        let mut hints: Vec<&str> = Vec::new();
        for Problem {
            origin,
            message,
            hint,
            ..
        } in &self.problems
        {
            match origin {
                Origin::File { line, .. } => write!(f, "\n  line {line}: {message}")?,
                Origin::Default | Origin::Settings { .. } | Origin::Environment(_) | Origin::Flag(_) => {
                    write!(f, "\n  {message}")?
                }
            }
            hints.extend(hint.as_deref().filter(|hint| !hints.contains(hint)));
        }
        hints.iter().try_for_each(|hint| write!(f, "\nhint: {hint}"))
    }
}
