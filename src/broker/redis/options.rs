//! Where a Redis server is, and how we sign in there: plain values, which the settings fill.

use std::fmt;
use std::path::PathBuf;

/// How the server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where it is.
    pub address: Address,
    /// Servers to try in turn when that one does not answer.
    pub others: Vec<Server>,
    /// The address for messages, without secrets.
    pub shown: String,
    /// Files for TLS.
    pub certificates: Certificates,
}

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Its own address is known.
    Server(Server),
    /// Others know it.
    Sentinels(Sentinels),
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// What it listens on.
    pub place: Place,
    /// Who signs in.
    pub sign_in: SignIn,
    /// The database's number.
    pub database: i64,
}

/// What a server listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A port.
    Tcp {
        /// A name or a number; one of IPv6 without brackets.
        host: String,
        /// The port.
        port: u16,
        /// It speaks TLS.
        tls: bool,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// User and password; what is empty is not said to the server.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SignIn {
    /// The user; empty: the one without a name.
    pub user: String,
    /// The password.
    pub password: String,
}

/// Not derived: it would show the password.
impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignIn(***)")
    }
}

/// Sentinels, and the name under which they know the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentinels {
    /// TLS is spoken, with the Sentinels and with the server.
    pub tls: bool,
    /// Host and port of each.
    pub hosts: Vec<(String, u16)>,
    /// Who signs in at them.
    pub sign_in: SignIn,
    /// The server's name.
    pub master: String,
    /// Who signs in at the server.
    pub at_server: SignIn,
    /// The database's number there.
    pub database: i64,
}

/// Files of certificates, PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificates {
    /// Who vouches for the server; `None`: whom the system trusts.
    pub ca: Option<PathBuf>,
    /// By which the server knows us.
    pub own: Option<PathBuf>,
    /// The private key of `own`.
    pub key: Option<PathBuf>,
    /// Nobody checks the server's: what is sent is hidden from who listens, and from nobody who pretends to be the server.
    pub unchecked: bool,
}
