//! What the outside sees of a running supervisor: log lines ([`log`]), systemd ([`notify`]), and what pools
//! decided ([`history`]).

pub mod history;
mod line;
pub mod log;
pub mod notify;
mod sink;
