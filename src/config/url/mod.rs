//! Broker URLs: which kinds there are, how they read and print. Pure.
//!
//! - [`redis`], [`sentinels`]: the address of a Redis server and of those who know it; [`address`]: which broker a URL names;
//! - [`kombu`]: URLs that only kombu, a library of Python, takes apart;
//! - [`text`]: parts of URLs, and URLs without secrets.

mod address;
mod kombu;
mod redis;
mod sentinels;
mod text;

use std::fmt;
use std::path::{Path, PathBuf};

pub(super) use address::checksum;
pub use kombu::KombuUrl;
pub use redis::RedisUrl;
pub use text::encoded;
pub(super) use text::without_secrets;

/// What [`BrokerUrl::parse`] reads, for messages.
pub(super) const BROKER_EXPECTED: &str = "a broker URL: `sqlite:PATH` for the embedded broker, `redis://HOST` for a Redis server, `amqp://HOST` for RabbitMQ, or `memory:`";

/// A broker URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerUrl {
    /// `sqlite:PATH`, absolute by now.
    Sqlite(PathBuf),
    /// `memory:`: for tests; one process.
    Memory,
    /// `redis://` and its kin.
    Redis(Box<RedisUrl>),
    /// A URL that only kombu takes apart.
    Kombu(Box<KombuUrl>),
    /// `app:NAME`: where this application says, which is known once it is loaded.
    App(String),
}

impl BrokerUrl {
    /// Reads a URL; `absolute` completes a relative path of a file.
    ///
    /// The error says what was expected.
    pub fn parse(url: &str, absolute: impl Fn(&Path) -> PathBuf) -> Result<Self, String> {
        let Some((scheme, rest)) = url.split_once(':') else {
            return Err(BROKER_EXPECTED.to_owned());
        };
        if rest.contains("***@") {
            return Err("the login in place of `***`, which is how it is printed".to_owned());
        }
        if let Some(url) = KombuUrl::parse(url) {
            return Ok(BrokerUrl::Kombu(Box::new(url)));
        }
        match (scheme, rest) {
            ("app", name) => Ok(BrokerUrl::App(name.to_owned())),
            // `sqlite:///path` is what other tools write for an absolute path.
            ("sqlite", path) => match path.strip_prefix("//").unwrap_or(path) {
                "" => Err("a path after `sqlite:`, such as `sqlite:/var/lib/pool/pool.db`".to_owned()),
                ":memory:" => Err("`memory:` for a broker without a file".to_owned()),
                path if path.contains('?') => Err("a path without `?` options".to_owned()),
                path => Ok(BrokerUrl::Sqlite(absolute(Path::new(path)))),
            },
            ("memory", "" | "//") => Ok(BrokerUrl::Memory),
            ("redis" | "rediss" | "redis+unix" | "unix" | "redis+sentinel" | "rediss+sentinel", _) => {
                RedisUrl::parse(url).map(|url| BrokerUrl::Redis(Box::new(url)))
            }
            ("memory", _) => Err("`memory:` with nothing after it".to_owned()),
            _ => Err(BROKER_EXPECTED.to_owned()),
        }
    }

    /// The URL as [`BrokerUrl::parse`] reads it, password and all: not for a log. `None`: another process can't use it.
    pub fn with_secrets(&self) -> Option<String> {
        match self {
            BrokerUrl::Sqlite(_) => Some(self.to_string()),
            BrokerUrl::Memory | BrokerUrl::App(_) => None,
            BrokerUrl::Redis(url) => Some(url.secret_text().to_owned()),
            BrokerUrl::Kombu(url) => Some(url.with_secrets().to_owned()),
        }
    }
}

/// The URL as logs and pages show it: without secrets.
impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BrokerUrl::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            BrokerUrl::Memory => f.write_str("memory:"),
            BrokerUrl::Redis(url) => f.write_str(&without_secrets(url.secret_text())),
            BrokerUrl::Kombu(url) => url.fmt(f),
            BrokerUrl::App(name) => write!(f, "app:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<BrokerUrl, String> {
        BrokerUrl::parse(url, |path| Path::new("/base").join(path))
    }

    #[test]
    fn a_login_that_is_not_printed_is_asked_for() {
        for url in ["amqp://***@h//", "redis://***@h/0", "rediss+sentinel://***@a,b/m"] {
            let error = parse(url).unwrap_err();
            assert!(error.contains("the login in place of `***`"), "{url}: {error}");
        }
    }

    #[test]
    fn a_relative_path_is_completed_and_an_absolute_one_kept() {
        assert_eq!(
            parse("sqlite:jobs.db"),
            Ok(BrokerUrl::Sqlite("/base/jobs.db".into()))
        );
        assert_eq!(
            parse("sqlite:/a/jobs.db"),
            Ok(BrokerUrl::Sqlite("/a/jobs.db".into()))
        );
        assert_eq!(
            parse("sqlite:///a/jobs.db"),
            Ok(BrokerUrl::Sqlite("/a/jobs.db".into()))
        );
        assert_eq!(parse("memory:"), Ok(BrokerUrl::Memory));
    }

    #[test]
    fn what_is_no_broker_is_refused() {
        for url in [
            "",
            "jobs.db",
            "sqlite:",
            "sqlite::memory:",
            "sqlite:a?mode=ro",
            "memory:x",
            "kafka://h",
        ] {
            assert!(parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_url_reads_back_as_it_prints() {
        for url in ["sqlite:/a/jobs.db", "memory:"] {
            assert_eq!(parse(url).unwrap().to_string(), url);
        }
    }
}
