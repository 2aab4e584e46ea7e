//! Words of other programs' command lines: flags that mean one of ours, and flags that can't hold, with the reason.
//! None is ignored.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches};

use crate::config::dialect::{Dialect, GivenLine, Meaning, Word};
use crate::config::problem::{Origin, Problem};
use crate::config::values::Dialects;
use crate::text::{escaped, head};

/// How much of a wrong value is shown.
const VALUE_LEN_MAX: usize = 80;

/// The words as clap takes them: not shown in `--help`, which has our own name of each.
pub(in crate::config) fn args() -> Vec<Arg> {
    let dialects = Dialects::default();
    let words = dialects.each().flat_map(|dialect| dialect.words());
    words.map(arg).collect()
}

/// One of them.
pub(super) fn arg(word: &Word) -> Arg {
    let arg = Arg::new(word.flag).hide(true);
    let arg = match word.value {
        "" => arg.action(ArgAction::SetTrue),
        value => arg.value_name(value).action(ArgAction::Set),
    };
    let arg = if word.flag.len() > 1 {
        arg.long(word.flag)
    } else {
        arg
    };
    match word.short {
        Some(letter) => arg.short(letter),
        None => arg,
    }
}

/// The words on a command line with their values.
pub(in crate::config) fn given(matches: &ArgMatches) -> BTreeMap<&'static str, String> {
    let dialects = Dialects::default();
    given_of(matches, dialects.each().flat_map(|dialect| dialect.words()))
}

/// Two words that can't both stand on a command line.
pub(super) fn are_one(word: &Word, other: &Word) -> bool {
    word.flag == other.flag || word.short.is_some() && word.short == other.short
}

/// These words on a command line with their values.
pub(super) fn given_of<'w>(
    matches: &ArgMatches,
    words: impl Iterator<Item = &'w Word>,
) -> BTreeMap<&'static str, String> {
    let given = words.filter_map(|word| match word.value {
        "" => matches.get_flag(word.flag).then(|| (word.flag, String::new())),
        _ => matches
            .get_one::<String>(word.flag)
            .map(|value| (word.flag, value.clone())),
    });
    given.collect()
}

/// The letter that a dialect's command line has for one of our own flags.
pub(in crate::config) fn short_of(flag: &str) -> Option<char> {
    Dialects::default()
        .each()
        .find_map(|dialect| dialect.short_of(flag))
}

/// A command line as its dialect reads it: what is one word there may be several letters here.
pub fn spelled_out(
    words: impl Iterator<Item = std::ffi::OsString>,
) -> impl Iterator<Item = std::ffi::OsString> {
    let dialects = Dialects::default();
    words.map(move |word| {
        let spelled = word
            .to_str()
            .and_then(|word| dialects.each().find_map(|dialect| dialect.spelled_out(word)));
        spelled.map_or(word, Into::into)
    })
}

/// The flags that are in force.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct Flags {
    /// The texts of each.
    pub values: BTreeMap<&'static str, Vec<String>>,
    /// The word of another program that has set it.
    set_by: BTreeMap<&'static str, &'static str>,
}

impl Flags {
    /// Those that the user has written.
    pub fn given(values: BTreeMap<&'static str, Vec<String>>) -> Self {
        Flags {
            values,
            set_by: BTreeMap::new(),
        }
    }

    /// A flag as the user has written it.
    pub fn name(&self, flag: &str) -> String {
        dashed(self.set_by.get(flag).copied().unwrap_or(flag))
    }
}

/// Puts what the words mean among the flags; the problems are those that can't be put there.
pub(in crate::config) fn translate(
    given: &BTreeMap<&'static str, String>,
    flags: &mut Flags,
) -> Vec<Problem> {
    let dialects = Dialects::default();
    let of = |dialect: &dyn Dialect| {
        let words = dialect.words().iter();
        translate_words((dialect, words), given, flags)
    };
    dialects.each().flat_map(of).collect()
}

/// The same for the command line of another program.
pub(in crate::config) fn translate_line(line: &GivenLine, flags: &mut Flags) -> Vec<Problem> {
    let dialects = Dialects::default();
    let dialect = dialects.of(line.kind);
    let its = dialect.lines().iter().filter(|its| its.command == line.command);
    let words = its.flat_map(|its| its.words);
    flags.values.insert("runtime", vec![line.kind.name().to_owned()]);
    translate_words((dialect, words), &line.given, flags)
}

fn translate_words<'w>(
    (dialect, words): (&dyn Dialect, impl Iterator<Item = &'w Word>),
    given: &BTreeMap<&'static str, String>,
    Flags {
        values: flags,
        set_by,
    }: &mut Flags,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for word in words {
        let Some(value) = given.get(word.flag) else {
            continue;
        };
        let name = dashed(word.flag);
        let meant = match (word.meaning)(value) {
            Meaning::Flags(meant) => meant,
            Meaning::Refused(why, hint) => {
                let title = dialect.title();
                let message = format!("`{name}` is an option of {title} that a pool can't have: {why}");
                problems.push(problem(dialect, name, message, hint));
                continue;
            }
            Meaning::Mistaken(why, hint) => {
                let message = format!("`{name}` is `{}`: {why}", head(&escaped(value), VALUE_LEN_MAX));
                problems.push(problem(dialect, name, message, hint));
                continue;
            }
        };
        for (flag, value) in meant {
            if set_by.get(flag) == Some(&word.flag) {
                // One word may name several things of a list.
                flags.entry(flag).or_default().push(value);
                continue;
            }
            let gives_way = set_by
                .get(flag)
                .is_some_and(|by| dialect.gives_way(by, word.flag));
            if flags.contains_key(flag) && !gives_way {
                let other = dashed(set_by.get(flag).copied().unwrap_or(flag));
                let message = format!("`{name}` and `{other}` are two words for one thing");
                problems.push(problem(dialect, name.clone(), message, "say one of them"));
                continue;
            }
            flags.insert(flag, vec![value]);
            set_by.insert(flag, word.flag);
        }
    }
    for flag in flags.keys().copied().collect::<Vec<_>>() {
        let text = flags[flag].last().map(String::as_str).unwrap_or_default();
        if let Some((why, hint)) = dialect.refused_value(flag, text) {
            flags.remove(flag);
            let name = dashed(flag);
            problems.push(problem(dialect, name.clone(), format!("`{name}` {why}"), hint));
        }
    }
    problems
}

fn dashed(flag: &str) -> String {
    let dashes = if flag.len() > 1 { "--" } else { "-" };
    format!("{dashes}{flag}")
}

fn problem(dialect: &dyn Dialect, flag: String, message: String, hint: &str) -> Problem {
    Problem {
        // A flag of a supervisor: of no matter to those who ask it.
        key: format!("{}.", dialect.kind().name()),
        origin: Origin::Flag(flag),
        message,
        hint: Some(hint.to_owned()),
    }
}
