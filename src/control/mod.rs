//! The control socket: how people and scripts speak to a running supervisor.
//!
//! A Unix stream socket of mode 0600. The client sends one JSON object a line ([`request`]), the
//! supervisor answers each with one JSON object on one line ([`reply`]). Whoever may open the socket
//! may do everything: there is no second permission check.

pub mod client;
pub mod pid_file;
pub mod reply;
pub mod request;
pub mod server;

pub use reply::Reply;
pub use request::Request;
pub use server::Call;

/// Longest request line in bytes, its line break included.
pub const REQUEST_LEN_MAX: usize = 16 * 1024;

/// Longest reply line in bytes, its line break included; a snapshot of ten thousand workers fits.
pub const REPLY_LEN_MAX: usize = 16 * 1024 * 1024;

/// Longest path of a Unix socket in bytes: `sun_path` less its closing zero.
pub const SOCKET_PATH_LEN_MAX: usize = 107;
