//! What the outside sees of a running supervisor: log lines ([`log`]) and systemd ([`notify`]).

mod line;
pub mod log;
pub mod notify;
mod sink;
