//! Broker URLs: which kinds there are, how they read and print.

use std::fmt;
use std::path::{Path, PathBuf};

use super::BrokerUrl;

/// What [`BrokerUrl::parse`] reads, for messages.
pub const BROKER_EXPECTED: &str = "a broker URL: `sqlite:PATH` for the embedded broker, or `memory:`";

impl BrokerUrl {
    /// Reads a URL; `absolute` completes a relative path of a file.
    ///
    /// The error says what was expected.
    pub fn parse(url: &str, absolute: impl Fn(&Path) -> PathBuf) -> Result<Self, String> {
        let Some((scheme, rest)) = url.split_once(':') else {
            return Err(BROKER_EXPECTED.to_owned());
        };
        match (scheme, rest) {
            // `sqlite:///path` is what other tools write for an absolute path.
            ("sqlite", path) => match path.strip_prefix("//").unwrap_or(path) {
                "" => Err("a path after `sqlite:`, such as `sqlite:/var/lib/pool/pool.db`".to_owned()),
                ":memory:" => Err("`memory:` for a broker without a file".to_owned()),
                path if path.contains('?') => Err("a path without `?` options".to_owned()),
                path => Ok(BrokerUrl::Sqlite(absolute(Path::new(path)))),
            },
            ("memory", "" | "//") => Ok(BrokerUrl::Memory),
            ("memory", _) => Err("`memory:` with nothing after it".to_owned()),
            _ => Err(BROKER_EXPECTED.to_owned()),
        }
    }
}

/// The URL as logs and pages show it: without secrets.
impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BrokerUrl::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            BrokerUrl::Memory => f.write_str("memory:"),
        }
    }
}

/// A text that was meant as a broker URL, with what may be a secret in it replaced by `***`:
/// user and password, and the values of query options.
pub fn without_secrets(url: &str) -> String {
    let (address, query) = url.split_once('?').map_or((url, None), |(a, q)| (a, Some(q)));
    let shown = match address.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}://***@{host}"),
            None => address.to_owned(),
        },
        None => address.to_owned(),
    };
    match query {
        Some(_) => format!("{shown}?***"),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<BrokerUrl, String> {
        BrokerUrl::parse(url, |path| Path::new("/base").join(path))
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

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(
            without_secrets("redis://u:p@ss@host:6379/0"),
            "redis://***@host:6379/0"
        );
        assert_eq!(without_secrets("redis://host?password=x"), "redis://host?***");
        assert_eq!(without_secrets("sqlite:/a.db"), "sqlite:/a.db");
    }
}
