//! The template's end of its control socket: orders in, reports out.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys::SysError;
use crate::sys::socket::{Received, Wait, recv_with_fds, send};
use crate::text::head;
use crate::wire::message::{CONTROL_LEN_MAX, FromTemplate, Load, ToTemplate};

/// Why a template can't go on with its supervisor.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The system refused something.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// A message that we do not know: the supervisor is of another version.
    #[error("a message of the supervisor can't be read (is it of another version?): {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Something else came before the order to load.
    #[error("the supervisor sent something else before `load`")]
    NoLoad,
    /// A template loads once.
    #[error("the supervisor sent `load` twice")]
    LoadedTwice,
}

/// What came from the supervisor.
#[derive(Debug)]
pub enum Message {
    /// An order, and the descriptors that came with it.
    Order(ToTemplate, Vec<OwnedFd>),
    /// It is gone.
    Closed,
}

/// The socket.
#[derive(Debug)]
pub struct Control(OwnedFd);

impl Control {
    /// Takes over the socket.
    pub fn new(socket: OwnedFd) -> Self {
        Control(socket)
    }

    /// Waits for the first message: what to load. `None` when the supervisor left, or has no use for us.
    pub fn load(&self) -> Result<Option<Load>, ControlError> {
        match self.receive(Wait::Block)? {
            Some(Message::Order(ToTemplate::Load(load), _)) => Ok(Some(*load)),
            None | Some(Message::Closed | Message::Order(ToTemplate::Stop, _)) => Ok(None),
            Some(Message::Order(ToTemplate::Fork { .. }, _)) => Err(ControlError::NoLoad),
        }
    }

    /// The next message that is there; `None` when there is none.
    pub fn next(&self) -> Result<Option<Message>, ControlError> {
        self.receive(Wait::Never)
    }

    fn receive(&self, wait: Wait) -> Result<Option<Message>, ControlError> {
        let mut buffer = vec![0; CONTROL_LEN_MAX];
        let (received, fds) = recv_with_fds(&self.0, &mut buffer, wait)?;
        match received {
            Received::Packet(len) => {
                let order = serde_json::from_slice(&buffer[..len])?;
                Ok(Some(Message::Order(order, fds)))
            }
            Received::Nothing => Ok(None),
            Received::Closed => Ok(Some(Message::Closed)),
        }
    }

    /// Tells the supervisor. Whether it is still there shows at the next read.
    pub fn send(&self, report: FromTemplate) -> Result<(), ControlError> {
        send(&self.0, &encode(report)?, Wait::Block)?;
        Ok(())
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A report as one packet: what is too long for it loses its least important parts.
fn encode(mut report: FromTemplate) -> Result<Vec<u8>, serde_json::Error> {
    let bytes = serde_json::to_vec(&report)?;
    if bytes.len() <= CONTROL_LEN_MAX {
        return Ok(bytes);
    }
    // JSON may take six bytes for one of text.
    let text_max = CONTROL_LEN_MAX / 16;
    match &mut report {
        FromTemplate::Ready(report) => {
            report.tasks.clear();
            report.warnings.truncate(8);
            report
                .warnings
                .iter_mut()
                .for_each(|text| cut(text, text_max / 8));
        }
        FromTemplate::Failed { error, detail } => {
            cut(error, text_max);
            cut(detail, text_max);
        }
        FromTemplate::ForkFailed { error, .. } => cut(error, text_max),
        FromTemplate::Facts { .. } | FromTemplate::Forked { .. } | FromTemplate::Exited { .. } => {}
    }
    serde_json::to_vec(&report)
}

fn cut(text: &mut String, len_max: usize) {
    if text.len() > len_max {
        *text = format!("{} …", head(text, len_max));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::LoadReport;

    #[test]
    fn a_report_always_fits_one_packet() {
        let long = "\u{1}ä".repeat(CONTROL_LEN_MAX);
        for report in [
            FromTemplate::Failed {
                error: long.clone(),
                detail: long.clone(),
            },
            FromTemplate::Ready(Box::new(LoadReport {
                tasks: vec!["task".into(); 20_000],
                warnings: vec![long.clone(); 20],
                ..LoadReport::default()
            })),
            FromTemplate::ForkFailed {
                worker: 1,
                error: long,
            },
        ] {
            let bytes = encode(report).unwrap();
            assert!(bytes.len() <= CONTROL_LEN_MAX, "{}", bytes.len());
            serde_json::from_slice::<FromTemplate>(&bytes).unwrap();
        }
    }
}
