//! Command lines of other programs, taken as they are: `pool NAME COMMAND …`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Args, Command};

use super::flags::RunArgs;
use super::words;
use crate::config::dialect::{GivenLine, Line, Word};
use crate::config::values::{DialectKind, Dialects};

/// The file of ours, where `--config` is another program's.
const OWN_CONFIG: &str = "pool-config";

/// What `pool NAME COMMAND …` says, and the queues behind it; `None`: no dialect has this name. `words` begin with the name.
///
/// The error is clap's.
pub fn own_line(words: &[OsString]) -> Option<Result<(RunArgs, Vec<String>), clap::Error>> {
    let kind = DialectKind::named(words.first()?.to_str()?)?;
    let dialects = Dialects::default();
    let lines = dialects.of(kind).lines();
    let words = super::spelled_out(words.iter().cloned());
    let matches = program(kind, lines).try_get_matches_from(words);
    let said = matches.map(|matches| {
        let (command, matches) = matches.subcommand().expect("a command is required");
        let line = lines.iter().find(|line| line.command == command);
        given(kind, line.expect("it is one of them"), matches)
    });
    Some(said.map_err(|error| with_the_way_out(error, lines)))
}

/// Who named a command that is not taken here is told who has it.
fn with_the_way_out(mut error: clap::Error, lines: &'static [Line]) -> clap::Error {
    if error.kind() == ErrorKind::InvalidSubcommand {
        let tips = lines.first().map(|line| StyledStr::from(line.others));
        error.insert(
            ContextKind::Suggested,
            ContextValue::StyledStrs(tips.into_iter().collect()),
        );
    }
    error
}

fn program(kind: DialectKind, lines: &'static [Line]) -> Command {
    let name = kind.name();
    let mut program = Command::new(name)
        .bin_name(format!("pool {name}"))
        .about(format!(
            "Runs in place of `{name}`: takes its words as they are, and flags of `pool run` beside them"
        ))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args_override_self(true);
    for line in lines {
        let command = Command::new(line.command)
            .about(format!("Runs what `{name} {}` would run", line.command))
            .after_help(format!(
                "What each of its options means here: docs/{name}.md. Note: {}.",
                line.others
            ))
            .args_override_self(true);
        program = program.after_help(line.others);
        if line.anywhere {
            let args = args(kind, line).into_iter().map(|arg| arg.global(true));
            program = program.args(args).subcommand(command);
        } else {
            let queues = line
                .has_queues
                .then(|| Arg::new("queues").value_name("QUEUE").num_args(0..));
            program = program.subcommand(command.args(args(kind, line)).args(queues));
        }
    }
    program
}

/// The options of a line, and those of ours that they leave room for.
fn args(kind: DialectKind, line: &'static Line) -> Vec<Arg> {
    let words = line.words;
    let takes_letter =
        |letter: char| letter == 'h' || line.anywhere || words.iter().any(|word| word.short == Some(letter));
    let ours = RunArgs::augment_args(Command::new("ours"));
    let dialects = Dialects::default();
    let is_word = |id: &str| {
        let mut all = dialects.each().flat_map(|dialect| dialect.words());
        all.any(|word| word.flag == id)
    };
    let others = dialects.each().filter(|dialect| dialect.kind() != kind);
    let headings_of_others: Vec<_> = others.map(|dialect| dialect.heading()).collect();
    let mut args: Vec<Arg> = words
        .iter()
        .chain(other_words(kind, line))
        .map(words::arg)
        .collect();
    for arg in ours.get_arguments() {
        let id = arg.get_id().as_str();
        let is_theirs = words.iter().any(|word| word.flag == id);
        if id == "config" && is_theirs {
            args.push(
                Arg::new(OWN_CONFIG)
                    .long(OWN_CONFIG)
                    .value_name("FILE")
                    .value_parser(clap::value_parser!(PathBuf))
                    .help("Configuration file of pool (TOML) [env: POOL_CONFIG]"),
            );
        } else if !is_theirs && !is_word(id) {
            let letter = arg.get_short().filter(|letter| !takes_letter(*letter));
            let is_of_others = arg
                .get_help_heading()
                .is_some_and(|heading| headings_of_others.contains(&heading));
            args.push(arg.clone().short(letter).hide(is_of_others));
        }
    }
    args
}

/// Words of the dialect that mean the same whatever the command.
fn other_words(kind: DialectKind, line: &'static Line) -> impl Iterator<Item = &'static Word> {
    let words = Dialects::default().of(kind).words();
    words
        .iter()
        .filter(|word| !line.words.iter().any(|other| words::are_one(word, other)))
}

fn given(kind: DialectKind, line: &'static Line, matches: &ArgMatches) -> (RunArgs, Vec<String>) {
    let has_config = line.words.iter().any(|word| word.flag == "config");
    let config = if has_config { OWN_CONFIG } else { "config" };
    let mut args = RunArgs {
        config: matches.get_one::<PathBuf>(config).cloned(),
        line: Some(GivenLine {
            kind,
            command: line.command,
            given: words::given_of(matches, line.words.iter()),
        }),
        ..RunArgs::default()
    };
    args.update(matches, line.words);
    args.words = words::given_of(matches, other_words(kind, line));
    let queues = line
        .has_queues
        .then(|| matches.get_many::<String>("queues"))
        .flatten();
    (args, queues.into_iter().flatten().cloned().collect())
}
