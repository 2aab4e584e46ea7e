//! `pool completions` and `pool man`: what packagers install beside the program.

use std::path::{Path, PathBuf};

use clap_complete::Shell;

use super::report::{Code, Failure, Out, Outcome};

/// Print the completions of a shell
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  pool completions bash > /usr/share/bash-completion/completions/pool
  pool completions fish > ~/.config/fish/completions/pool.fish")]
pub struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

/// Print the man page, or write one for each verb
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  pool man | man -l -
  pool man /usr/local/share/man/man1")]
pub struct ManArgs {
    /// Write pool.1 and a page for each verb, such as pool-run.1, into this directory
    directory: Option<PathBuf>,
}

/// Prints the completions.
pub fn run(args: &CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "pool", &mut script);
    write(&script)
}

/// Prints the page of the program, or writes all pages.
pub fn man(args: &ManArgs) -> Outcome {
    if let Some(directory) = &args.directory {
        return pages(directory);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(super::command())
        .render(&mut page)
        .map_err(|error| Failure::new(Code::Failed, format!("cannot write the man page: {error}")))?;
    write(&page)
}

fn pages(directory: &Path) -> Outcome {
    clap_mangen::generate_to(super::command(), directory).map_err(|error| {
        let directory = directory.display();
        Failure::new(
            Code::Failed,
            format!("cannot write the man pages to `{directory}`: {error}"),
        )
    })
}

fn write(bytes: &[u8]) -> Outcome {
    let mut out = Out::new();
    out.raw(bytes)?;
    out.flush()
}
