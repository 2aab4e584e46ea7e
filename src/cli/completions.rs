//! `pool completions` and the hidden `pool man`: what packagers install beside the program.

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

/// Prints the completions.
pub fn run(args: &CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "pool", &mut script);
    write(&script)
}

/// Prints the man page: the program, and a page a verb below it.
pub fn man() -> Outcome {
    let mut page = Vec::new();
    clap_mangen::Man::new(super::command())
        .render(&mut page)
        .map_err(|error| Failure::new(Code::Failed, format!("cannot write the man page: {error}")))?;
    write(&page)
}

fn write(bytes: &[u8]) -> Outcome {
    let mut out = Out::new();
    out.raw(bytes)?;
    out.flush()
}
