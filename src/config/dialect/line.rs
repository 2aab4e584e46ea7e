//! A command of another program's command line, taken as it is. Pure.

use std::collections::BTreeMap;

use super::Word;
use crate::config::values::DialectKind;

/// `pool NAME COMMAND …`, as in `NAME COMMAND …` of the dialect's own program.
pub(in crate::config) struct Line {
    /// The command.
    pub command: &'static str,
    /// Its options; one of ours with the same name or letter means what it means there.
    pub words: &'static [Word],
    /// Options may stand ahead of the command, too, and all letters are the other program's.
    pub anywhere: bool,
    /// Words behind the options are queues.
    pub has_queues: bool,
    /// What to say of its program's other commands.
    pub others: &'static str,
}

/// What was given on the command line of another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct GivenLine {
    /// Whose.
    pub kind: DialectKind,
    /// Which command.
    pub command: &'static str,
    /// Its options with their values.
    pub given: BTreeMap<&'static str, String>,
}
