//! The supervisor's end of one template: its control socket, its output, its death.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::sys::signal::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::input::Input;
use super::output::Output;
use super::printed::Source;
use super::reader::{how_it_ended, readable};
use crate::death::ProcessEnd;
use crate::runtime::TemplateCommand;
use crate::sys::pidfd::PidFd;
use crate::sys::socket::{self, Received, Sent, Wait};
use crate::sys::spawn::spawn_template;
use crate::sys::watch::{watch, watch_process};
use crate::text;
use crate::wire::facts::Facts;
use crate::wire::message::{CONTROL_LEN_MAX, FromTemplate, Load, LoadReport, ToTemplate};

/// One template as the supervisor holds it. Dropping it closes the lifeline, which kills it.
#[derive(Debug)]
pub(super) struct Template {
    process: Arc<PidFd>,
    control: Arc<AsyncFd<OwnedFd>>,
    end: Option<oneshot::Sender<ProcessEnd>>,
    _lifeline: OwnedFd,
}

impl Template {
    /// Starts a template and tells it what to load. Errors say what could not be done.
    pub fn start(
        number: u64,
        command: &TemplateCommand,
        load: Load,
        inputs: &UnboundedSender<Input>,
    ) -> Result<Template, String> {
        let spawned = spawn_template(command).map_err(|error| error.to_string())?;
        let refused = |error: std::io::Error| format!("cannot watch the template: {error}");
        let control = watch(spawned.control, Interest::READABLE).map_err(refused)?;
        let control = Arc::new(control);
        let (end, on_end) = oneshot::channel();
        let process = Arc::new(spawned.pidfd);
        let reader = Reader {
            number,
            process: process.clone(),
            control: control.clone(),
            facts: Facts::default(),
            output: Output::new(
                Source::Template(number),
                (spawned.stdout, spawned.stderr),
                inputs.clone(),
            )
            .map_err(refused)?,
            inputs: inputs.clone(),
        };
        let pidfd = watch_process(process.clone()).map_err(refused)?;
        tokio::spawn(reader.run(pidfd, on_end));
        let template = Template {
            process,
            control,
            end: Some(end),
            _lifeline: spawned.lifeline,
        };
        // One that has left already is told of by its end.
        template.put(&ToTemplate::Load(Box::new(load)), &[])?;
        Ok(template)
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.process.number()
    }

    /// Sends a message, with descriptors for a `fork`.
    pub fn send(&self, message: &ToTemplate, descriptors: &[BorrowedFd<'_>]) -> Result<(), String> {
        match self.put(message, descriptors)? {
            true => Ok(()),
            false => Err("the template is gone".into()),
        }
    }

    /// Sends a message; `false`: nobody is there to read it.
    fn put(&self, message: &ToTemplate, descriptors: &[BorrowedFd<'_>]) -> Result<bool, String> {
        let packet = serde_json::to_vec(message).map_err(|error| error.to_string())?;
        if packet.len() > CONTROL_LEN_MAX {
            return Err(format!(
                "a control message of {} bytes, above {CONTROL_LEN_MAX}",
                packet.len()
            ));
        }
        match socket::send_with_fds(self.control.get_ref(), &packet, descriptors, Wait::Never) {
            Ok(Sent::Whole) => Ok(true),
            Ok(Sent::Closed) => Ok(false),
            Ok(Sent::Full) => Err("the template does not read its control socket".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Kills it; its workers live on.
    pub fn kill(&self) {
        let _ = self.process.signal_group(Signal::SIGKILL);
    }

    /// How it ended, as the reaper learned.
    pub fn ended(&mut self, end: ProcessEnd) {
        if let Some(tell) = self.end.take() {
            let _ = tell.send(end);
        }
    }
}

/// Reads everything that comes from one template.
struct Reader {
    number: u64,
    process: Arc<PidFd>,
    control: Arc<AsyncFd<OwnedFd>>,
    /// What came of them before `ready`.
    facts: Facts,
    output: Output,
    inputs: UnboundedSender<Input>,
}

impl Reader {
    async fn run(mut self, pidfd: AsyncFd<Arc<PidFd>>, end: oneshot::Receiver<ProcessEnd>) {
        let mut buffer = vec![0; CONTROL_LEN_MAX];
        let mut open = true;
        loop {
            tokio::select! {
                ready = self.output.ready() => self.output.serve(ready),
                ready = readable(&self.control), if open => open = ready.is_ok() && self.read_messages(&mut buffer),
                _ = pidfd.readable() => break,
            }
            tokio::task::coop::consume_budget().await;
        }
        self.read_messages(&mut buffer);
        self.output.end_of_process();
        let (how, _) = how_it_ended(Some(pidfd), end).await;
        let _ = self.inputs.send(Input::TemplateExited {
            template: self.number,
            how,
        });
    }

    /// Reads the messages that are there. Returns false at the end of file.
    fn read_messages(&mut self, buffer: &mut [u8]) -> bool {
        loop {
            match socket::recv(self.control.get_ref(), buffer, Wait::Never) {
                Ok(Received::Packet(len)) => match serde_json::from_slice::<FromTemplate>(
                    &text::without_lone_surrogates(&buffer[..len]),
                ) {
                    Ok(message) => self.speaks(message),
                    Err(error) => {
                        tracing::warn!(template = self.number, %error, "a template sent an unreadable message");
                    }
                },
                Ok(Received::Nothing) => return true,
                Ok(Received::Closed) => return false,
                Err(error) => {
                    tracing::warn!(template = self.number, %error, "cannot read a template's control socket");
                    return false;
                }
            }
        }
    }

    /// Hands a message on, with the facts that came ahead of it.
    fn speaks(&mut self, message: FromTemplate) {
        let message = match message {
            FromTemplate::Facts { part } => return self.facts.add(&part),
            FromTemplate::Ready(report) => match std::mem::take(&mut self.facts).finish() {
                Ok(facts) => FromTemplate::Ready(Box::new(LoadReport { facts, ..*report })),
                Err(error) => {
                    let _ = self.process.signal_group(Signal::SIGKILL);
                    FromTemplate::Failed {
                        error: error.to_string(),
                        detail: String::new(),
                    }
                }
            },
            message => message,
        };
        let _ = self.inputs.send(Input::Template {
            template: self.number,
            message: Box::new(message),
        });
    }
}
