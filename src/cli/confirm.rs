//! Asking before many jobs go.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use super::report::{Code, Failure, Outcome};

/// Whether to do it: at once with `--yes`; on a terminal somebody is asked; else nobody can be, and it is refused.
///
/// `what`: as in `cancel 12 jobs`.
pub fn confirm(what: &str, yes: bool) -> Outcome {
    if yes {
        return Ok(());
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        let message = format!("nobody can be asked whether to {what}: this is no terminal");
        return Err(
            Failure::new(Code::Usage, message).hint("--yes does it without asking, --dry-run only counts")
        );
    }
    let mut question = what.to_owned();
    if let Some(first) = question.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let _ = write!(io::stderr(), "{question}? [y/N] ");
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    match read.is_ok() && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) {
        true => Ok(()),
        false => Err(Failure::new(Code::Failed, "nothing was done")),
    }
}

/// A number of jobs, as in `1 job` and `12 jobs`.
pub fn jobs(count: u64) -> String {
    format!("{count} job{}", if count == 1 { "" } else { "s" })
}

/// The answer to `--dry-run`. `found`: how many of what, as in `12 jobs`.
pub fn matching(found: impl Display, count: u64) -> String {
    format!("{found} {}\n", if count == 1 { "matches" } else { "match" })
}
