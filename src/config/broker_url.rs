//! Broker URLs: which kinds there are, how they read and print.

use std::fmt;
use std::path::{Path, PathBuf};

use super::BrokerUrl;
use super::redis_options::{self, RedisOptions};

/// What [`BrokerUrl::parse`] reads, for messages.
pub const BROKER_EXPECTED: &str =
    "a broker URL: `sqlite:PATH` for the embedded broker, `redis://HOST` for a Redis server, or `memory:`";

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
            ("redis" | "rediss" | "redis+unix" | "unix" | "redis+sentinel" | "rediss+sentinel", _) => {
                RedisUrl::parse(url).map(BrokerUrl::Redis)
            }
            ("memory", _) => Err("`memory:` with nothing after it".to_owned()),
            _ => Err(BROKER_EXPECTED.to_owned()),
        }
    }
}

impl BrokerUrl {
    /// The URL as [`BrokerUrl::parse`] reads it, password and all: not for a log. `None`: another process can't use it.
    pub fn with_secrets(&self) -> Option<String> {
        match self {
            BrokerUrl::Sqlite(_) => Some(self.to_string()),
            BrokerUrl::Memory => None,
            BrokerUrl::Redis(url) => Some(url.text.clone()),
        }
    }
}

/// A Redis server, or the Sentinels that know it.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    text: String,
    /// What the query of one server's URL says; empty for Sentinels, whose URL is read anew.
    options: RedisOptions,
}

impl RedisUrl {
    fn parse(url: &str) -> Result<Self, String> {
        let mut found = RedisUrl {
            text: url.to_owned(),
            options: RedisOptions::default(),
        };
        match found.sentinels() {
            Some(sentinels) => drop(sentinels?),
            None => found.options = redis_options::read(url)?,
        }
        Ok(found)
    }

    /// The URL of one server with its secrets, as the client library reads it; not for a log.
    pub fn secret_text(&self) -> &str {
        match self.options.client.as_str() {
            "" => &self.text,
            client => client,
        }
    }

    /// The URL of one server with its secrets, as redis-py reads it; not for a log.
    pub fn secret_text_for_python(&self) -> &str {
        &self.options.python
    }

    /// Files of TLS that its query names: who vouches for the server, our certificate, its key.
    pub(super) fn files(&self) -> &[Option<String>; 3] {
        &self.options.files
    }

    /// The Sentinels, when the URL names them: `redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/MASTER/DATABASE`,
    /// and behind it `?sentinel_username=…&sentinel_password=…` where the Sentinels ask for them.
    pub fn sentinels(&self) -> Option<Result<Sentinels, String>> {
        let (scheme, rest) = self.text.split_once("://")?;
        let tls = match scheme {
            "redis+sentinel" => false,
            "rediss+sentinel" => true,
            _ => return None,
        };
        Some(
            Sentinels::parse(tls, rest).ok_or_else(|| {
                "Sentinels such as `redis+sentinel://HOST:26379,HOST:26379/MASTER/0`".to_owned()
            }),
        )
    }
}

/// Not derived: it would show the password.
impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({})", without_secrets(&self.text))
    }
}

/// Sentinels and the name under which they know the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Sentinels {
    /// Talk TLS, to the Sentinels and to the server.
    pub tls: bool,
    /// Who signs in at the server; empty: nobody.
    pub user: String,
    /// With this password.
    pub password: String,
    /// `HOST:PORT` of each.
    pub addresses: Vec<String>,
    /// The server's name.
    pub master: String,
    /// The database's number.
    pub database: i64,
    /// Who signs in at the Sentinels; `None`: nobody, or the one user without a name.
    pub sentinel_user: Option<String>,
    /// With this password.
    pub sentinel_password: Option<String>,
}

impl Sentinels {
    fn parse(tls: bool, rest: &str) -> Option<Self> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (credentials, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let mut parts = rest.split('/');
        let with_port = |host: &str| match host.contains(':') {
            true => host.to_owned(),
            false => format!("{host}:26379"),
        };
        let addresses: Vec<String> = parts
            .next()?
            .split(',')
            .filter(|host| !host.is_empty())
            .map(with_port)
            .collect();
        let master = parts.next().filter(|name| !name.is_empty())?.to_owned();
        let database = match parts.next() {
            None | Some("") => 0,
            Some(number) => number.parse().ok()?,
        };
        if addresses.is_empty() || parts.next().is_some() {
            return None;
        }
        let mut found = Sentinels {
            tls,
            user: decoded(user)?,
            password: decoded(password)?,
            addresses,
            master,
            database,
            sentinel_user: None,
            sentinel_password: None,
        };
        for option in query.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=')? {
                ("sentinel_username", user) => found.sentinel_user = Some(decoded(user)?),
                ("sentinel_password", password) => found.sentinel_password = Some(decoded(password)?),
                _ => return None,
            }
        }
        Some(found)
    }
}

/// A part of a URL, with `%40` read as `@`; `None` if it is no text then.
pub(super) fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok()
}

/// Text as a part of a URL: what [`decoded`] reads.
pub fn encoded(text: &str) -> String {
    let mut part = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            part.push(char::from(byte));
        } else {
            part.push_str(&format!("%{byte:02X}"));
        }
    }
    part
}

/// What a Redis URL looks like, for messages.
pub(super) const REDIS_EXPECTED: &str = "a Redis URL such as `redis://HOST:6379/0`, `rediss://USER:PASSWORD@HOST:6380/0` or `redis+unix:///run/redis.sock?db=0`";

/// The URL as logs and pages show it: without secrets.
impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BrokerUrl::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            BrokerUrl::Memory => f.write_str("memory:"),
            BrokerUrl::Redis(url) => f.write_str(&without_secrets(&url.text)),
        }
    }
}

/// A text that was meant as a broker URL, with what may be a secret in it replaced by `***`:
/// user and password, and the values of query options. It may be mistyped: whatever stands before an `@` is hidden.
pub fn without_secrets(url: &str) -> String {
    let scheme_len = scheme_len(url);
    let (scheme, rest) = url.split_at(scheme_len);
    if scheme.starts_with("sqlite:") {
        return url
            .split_once('?')
            .map_or(url.to_owned(), |(path, _)| format!("{path}?***"));
    }
    let (at, query) = (rest.rfind('@'), rest.find('?'));
    match (at, query) {
        // Either may be part of a password.
        (Some(at), Some(query)) if query < at => format!("{scheme}***"),
        (Some(at), Some(query)) => format!("{scheme}***{}?***", &rest[at..query]),
        (Some(at), None) => format!("{scheme}***{}", &rest[at..]),
        (None, Some(query)) => format!("{scheme}{}?***", &rest[..query]),
        (None, None) => url.to_owned(),
    }
}

/// Length of `redis://` and what looks like it: a word, a colon and slashes, or slashes alone.
fn scheme_len(url: &str) -> usize {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "+.-".contains(c);
    let word = url.find(|c| !is_word(c)).unwrap_or(url.len());
    let after = url[word..].strip_prefix(':').unwrap_or(&url[word..]);
    let colon = url.len() - word - after.len();
    let slashes = after.len() - after.trim_start_matches('/').len();
    match (word, slashes) {
        (0, slashes) => colon + slashes,
        (_, 0) => 0,
        (word, slashes) if colon == 1 => word + 1 + slashes,
        _ => 0,
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
    fn sentinels_read_with_all_that_is_said_of_them() {
        let url = "rediss+sentinel://u:p%40ss@a:1,b/mymaster/3?sentinel_password=s%26";
        let Ok(BrokerUrl::Redis(redis)) = parse(url) else {
            panic!("{url} is refused")
        };
        let found = redis.sentinels().unwrap().unwrap();
        assert_eq!(found.addresses, ["a:1", "b:26379"]);
        assert_eq!((found.user.as_str(), found.password.as_str()), ("u", "p@ss"));
        assert_eq!(
            (found.master.as_str(), found.database, found.tls),
            ("mymaster", 3, true)
        );
        assert_eq!(
            (found.sentinel_user, found.sentinel_password.as_deref()),
            (None, Some("s&"))
        );
        for wrong in [
            "redis+sentinel://a:1",
            "redis+sentinel:///m",
            "redis+sentinel://a/m/x",
            "redis+sentinel://a/m?db=1",
            "redis+sentinel://:%zz@a/m",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(decoded(&encoded("a b@ß")).as_deref(), Some("a b@ß"));
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

    #[test]
    fn a_mistyped_url_shows_no_secret_either() {
        for (url, shown) in [
            ("redis:/u:pw@h", "redis:/***@h"),
            ("redis:u:pw@h", "***@h"),
            ("//u:pw@h", "//***@h"),
            ("u:pw@h:6379", "***@h:6379"),
            ("redis//u:pw@h", "***@h"),
            ("redis://u:p?w@h", "redis://***"),
            ("redis://h?password=p@w", "redis://***"),
            ("redis://u:p/w@h/0", "redis://***@h/0"),
            ("kafka://h", "kafka://h"),
        ] {
            assert_eq!(without_secrets(url), shown, "{url}");
        }
    }
}
