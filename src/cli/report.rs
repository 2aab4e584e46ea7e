//! How a verb ends: well, or with an error for its reader, a hint and an exit code.
//!
//! Data goes to standard output, words about trouble to standard error.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::process::ExitCode;

use crate::broker::{BrokerError, NotHere};
use crate::control::client::CallError;
use crate::control::server::ControlError;
use crate::telemetry::log::LogError;
use crate::text::{escaped_json, escaped_lines};

/// Exit codes besides 0, a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// It was tried and did not succeed.
    Failed = 1,
    /// Wrong usage or configuration; nothing was tried.
    Usage = 2,
    /// Nobody answered: broker or supervisor.
    Nobody = 3,
    /// It was interrupted at the keyboard, and ends as whoever is ended by SIGINT: 130 is what a shell calls that.
    Interrupted = 130,
}

/// Why a verb did not succeed, as its reader meets it.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    code: Code,
    /// Empty: all is said already.
    message: String,
    hint: Option<String>,
}

/// What a verb returns.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// What could not be done and why, with the exit code that says the same.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let message = message.into();
        Failure {
            code,
            message,
            hint: None,
        }
    }

    /// An exit code alone: the output has said why, or there is nobody to say it to.
    pub fn silent(code: Code) -> Self {
        Failure::new(code, "")
    }

    /// Adds what the user can do.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        let hint = Some(hint.into());
        Failure { hint, ..self }
    }

    /// Puts what could not be done before the reason.
    pub fn context(self, what: &str) -> Self {
        let message = format!("{what}: {}", self.message);
        Failure { message, ..self }
    }

    /// Says what was done all the same, and how to go on: it was tried, and failed on its way.
    pub fn but(self, done: &str, hint: String) -> Self {
        Failure {
            code: match self.code {
                Code::Usage => Code::Failed,
                code => code,
            },
            message: format!("{}\n{done}", self.message.trim_end()),
            hint: Some(hint),
        }
    }

    /// Tells the user on standard error.
    pub fn print(&self) {
        if self.message.is_empty() {
            return;
        }
        let hint = self
            .hint
            .iter()
            .map(|hint| format!("hint: {}\n", escaped_lines(hint)))
            .collect::<String>();
        // A closed standard error leaves nobody to tell; the exit code remains.
        let message = escaped_lines(self.message.trim_end());
        let _ = write!(io::stderr(), "error: {message}\n{hint}");
    }

    /// The exit code.
    pub fn code(&self) -> Code {
        self.code
    }
}

impl From<&Failure> for ExitCode {
    fn from(failure: &Failure) -> Self {
        ExitCode::from(failure.code as u8)
    }
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Unreachable { url, reason, hint } => {
                Failure::new(Code::Nobody, format!("cannot reach {url}: {reason}")).hint(hint)
            }
            BrokerError::Busy { .. } => {
                Failure::new(Code::Failed, error.to_string()).hint("trying again may help")
            }
            BrokerError::Corrupt { .. }
            | BrokerError::Refused(_)
            | BrokerError::IdTaken(_)
            | BrokerError::GroupTaken(_)
            | BrokerError::NotHere(_) => Failure::new(Code::Failed, error.to_string()),
        }
    }
}

impl From<NotHere> for Failure {
    fn from(lack: NotHere) -> Self {
        Failure::from(BrokerError::from(lack))
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let message = error.to_string();
        match error {
            CallError::Nobody { .. } => {
                Failure::new(Code::Nobody, message).hint("is the supervisor running? name its socket with --socket, or give the --broker that it was started with")
            }
            CallError::Denied { .. } => {
                Failure::new(Code::Nobody, message).hint("run this as the user that the supervisor runs as")
            }
            CallError::TimedOut { .. } | CallError::HungUp { .. } => Failure::new(Code::Nobody, message),
            CallError::PathTooLong { .. } => {
                Failure::new(Code::Usage, message).hint("choose a shorter one with --socket")
            }
            CallError::Garbled { .. } => Failure::new(Code::Failed, message)
                .hint("does the supervisor run another version of this program?"),
            CallError::Io { .. } => Failure::new(Code::Failed, message),
        }
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        let message = error.to_string();
        match error {
            ControlError::AlreadyRunning { .. } => Failure::new(Code::Failed, message).hint(
                "stop it with `pool stop`, or give this one a socket of its own with --socket PATH, or another broker",
            ),
            ControlError::PathTooLong { .. } => {
                Failure::new(Code::Usage, message).hint("choose a shorter one with --socket")
            }
            ControlError::NotASocket { .. } => {
                Failure::new(Code::Failed, message).hint("move it away, or choose another path with --socket")
            }
            ControlError::Io { .. } => {
                // The broker's file, the socket and the history are beside each other where nothing else is said.
                Failure::new(Code::Failed, message).hint(
                    "set STATE_DIRECTORY to a directory that may be written, for all files of the pool, or name them by --broker and --socket",
                )
            }
        }
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Filter { .. } => Failure::new(Code::Usage, error.to_string()),
            LogError::Twice => Failure::new(Code::Failed, error.to_string()),
        }
    }
}

/// Standard output, buffered. A reader that left ends the verb in silence, as it ends `yes | head`.
pub struct Out(BufWriter<StdoutLock<'static>>);

impl Out {
    /// Takes standard output for as long as it lives.
    pub fn new() -> Self {
        Out(BufWriter::new(io::stdout().lock()))
    }

    /// Writes text for people into the buffer, and a line break. What would steer their terminal is escaped.
    pub fn line(&mut self, line: impl Display) -> Outcome {
        writeln!(self.0, "{}", escaped_lines(&line.to_string())).map_err(unwritable)
    }

    /// Writes JSON for programs, and a line break. It is the same JSON, and steers no terminal either.
    pub fn json(&mut self, json: &str) -> Outcome {
        writeln!(self.0, "{}", escaped_json(json)).map_err(unwritable)
    }

    /// Writes text as it is for a program that reads it; a terminal gets it as [`Out::line`] writes it.
    pub fn raw(&mut self, text: &[u8]) -> Outcome {
        if !io::stdout().is_terminal() {
            return self.bytes(text);
        }
        let text = String::from_utf8_lossy(text);
        self.bytes(escaped_lines(&text).as_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Outcome {
        self.0.write_all(bytes).map_err(unwritable)
    }

    /// Hands everything to the reader.
    pub fn flush(&mut self) -> Outcome {
        self.0.flush().map_err(unwritable)
    }
}

/// Why standard output took no more; a reader that left is no failure to speak of.
pub fn unwritable(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::silent(Code::Failed);
    }
    Failure::new(Code::Failed, format!("cannot write to standard output: {error}"))
}

/// Prints text for people that ends its own lines.
pub fn print(text: &str) -> Outcome {
    let mut out = Out::new();
    out.bytes(escaped_lines(text).as_bytes())?;
    out.flush()
}

/// Prints one JSON value for programs, and a line break.
pub fn print_json(json: &str) -> Outcome {
    let mut out = Out::new();
    out.json(json)?;
    out.flush()
}

/// Tells the user something that is neither data nor an error.
pub fn note(text: &str) {
    // Nobody there to be told is no trouble.
    let _ = writeln!(io::stderr(), "{}", escaped_lines(text));
}
