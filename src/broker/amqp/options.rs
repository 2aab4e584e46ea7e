//! Where servers of AMQP are, and how we sign in there: plain values, which the settings fill.

use std::fmt;
use std::path::PathBuf;

/// How a broker is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its servers, the first one tried first.
    pub servers: Vec<Server>,
    /// Files for TLS.
    pub certificates: Certificates,
    /// Seconds between two signs of life; 0: none. The server may ask for fewer.
    pub heartbeat: u16,
}

/// One server.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// A name or a number; one of IPv6 without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// It speaks TLS.
    pub tls: bool,
    /// Who signs in.
    pub user: String,
    /// The password.
    pub password: String,
    /// Its virtual host.
    pub vhost: String,
}

/// Files, in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificates {
    /// Who vouches for the server; `None`: whom the system trusts.
    pub ca: Option<PathBuf>,
    /// By which the server knows us.
    pub own: Option<PathBuf>,
    /// The private key of `own`.
    pub key: Option<PathBuf>,
    /// Nobody checks the server's certificate.
    pub unchecked: bool,
}

impl Server {
    /// Its address for messages, without secrets.
    pub fn shown(&self) -> String {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        format!("{scheme}://{host}:{}/{}", self.port, self.vhost)
    }
}

/// Not derived: it would show the password.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}
