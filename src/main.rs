//! The binary `pool`: the built-in app with the whole command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    pool::App::builtin().main()
}
