//! The door of every program of this crate: which of its roles it takes, before any thread exists.

use std::process::ExitCode;

use crate::runtime::native::App;
use crate::runtime::{TEMPLATE_ROLE, command};
use crate::{cli, template};

impl<S: 'static> App<S> {
    /// The whole program: the command line `pool`, with this app's tasks as the `native` runtime.
    ///
    /// To be called by `main` before it does anything else: the same program is started as the
    /// template, which loads the state and is forked for each worker; it must be single-threaded then.
    pub fn main(self) -> ExitCode {
        let mut args = std::env::args_os().skip(1);
        if args.next().is_none_or(|first| first != TEMPLATE_ROLE) {
            return cli::main();
        }
        match args.next().as_deref().and_then(|role| role.to_str()) {
            Some("native") => template::main("native", |_| self.load()),
            Some("command") => template::main("command", command::load),
            _ => {
                eprintln!(
                    "error: `{TEMPLATE_ROLE}` is for supervisors that start this program as a template"
                );
                ExitCode::from(2)
            }
        }
    }
}
