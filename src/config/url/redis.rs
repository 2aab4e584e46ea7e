//! A Redis URL and the options in its query, as redis-py reads them. Pure.
//!
//! Source: redis-py 5 and 6, `redis/connection.py`, `parse_url`, `URL_QUERY_ARGUMENT_PARSERS`, `ConnectionPool.from_url`.

use std::fmt::{self, Write};

use super::sentinels;
use super::text::{decoded, encoded, without_secrets};
use crate::broker::redis::options::{Address, Place, Server, SignIn};

/// What a Redis URL looks like, for messages.
const REDIS_EXPECTED: &str = "a Redis URL such as `redis://HOST:6379/0`, `rediss://USER:PASSWORD@HOST:6380/0` or `redis+unix:///run/redis.sock?db=0`";
/// Where a server listens if the URL has no port.
const PORT: u16 = 6379;

/// A Redis server, or the Sentinels that know it.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    text: String,
    address: Address,
    /// The URL of one server for redis-py, with the options that hold for the connections of the jobs' own code.
    python: String,
    /// `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`: as `broker.tls_ca` and its like.
    files: [Option<String>; 3],
}

impl RedisUrl {
    /// The error says what was expected.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match sentinels::parse(text) {
            Some(found) => Ok(RedisUrl {
                text: text.to_owned(),
                address: Address::Sentinels(found?),
                python: String::new(),
                files: Default::default(),
            }),
            None => Self::of_a_server(text),
        }
    }

    fn of_a_server(text: &str) -> Result<Self, String> {
        let address = text.split('#').next().unwrap_or_default();
        let (address, query) = address.split_once('?').unwrap_or((address, ""));
        let query = Query::read(query)?;
        let parts = Parts::read(address).ok_or(REDIS_EXPECTED)?;
        let mut files = FILES.iter().zip(&query.files);
        if let Some((name, _)) = files.find(|(_, file)| file.is_some() && !parts.tls) {
            return Err(format!(
                "a URL with `rediss://`, since it has the option `{name}`"
            ));
        }
        let server = parts.server(&query)?;
        Ok(RedisUrl {
            text: text.to_owned(),
            python: parts.for_python(&server, &query.tuning),
            address: Address::Server(server),
            files: query.files,
        })
    }

    /// The URL as it was given, with its secrets; not for a log.
    pub(super) fn secret_text(&self) -> &str {
        &self.text
    }

    /// Where the server is, or who knows it.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The URL of one server with its secrets, as redis-py reads it; not for a log. Empty for Sentinels.
    pub fn secret_text_for_python(&self) -> &str {
        &self.python
    }

    /// Files of TLS that its query names: who vouches for the server, our certificate, its key.
    pub(in crate::config) fn files(&self) -> &[Option<String>; 3] {
        &self.files
    }
}

/// Not derived: it would show the password.
impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({})", without_secrets(&self.text))
    }
}

/// A URL of one server less its query, as it is written.
struct Parts {
    tls: bool,
    is_unix: bool,
    user: String,
    password: String,
    /// With the brackets of IPv6.
    host: String,
    port: Option<u16>,
    path: String,
}

impl Parts {
    fn read(address: &str) -> Option<Self> {
        let url = redis::parse_redis_url(address)?;
        Some(Parts {
            tls: url.scheme() == "rediss",
            is_unix: url.scheme().ends_with("unix"),
            user: url.username().to_owned(),
            password: url.password().unwrap_or_default().to_owned(),
            host: url.host_str().unwrap_or_default().to_owned(),
            port: url.port(),
            path: url.path().to_owned(),
        })
    }

    /// The server. As in redis-py the query's database wins, and the user and the password before the host do.
    fn server(&self, query: &Query) -> Result<Server, String> {
        let database = match (query.database, self.path.trim_matches('/')) {
            (Some(number), _) => number,
            (None, "") => 0,
            (None, _) if self.is_unix => 0,
            (None, number) => number.parse().map_err(|_| REDIS_EXPECTED)?,
        };
        let or_given = |part: &str, given: &String| match part {
            "" => Some(given.clone()),
            part => decoded(part),
        };
        let place = match self.is_unix {
            true => Place::Unix(decoded(&self.path).ok_or(REDIS_EXPECTED)?.into()),
            false => Place::Tcp {
                host: host(&self.host)?,
                port: self.port.unwrap_or(PORT),
                tls: self.tls,
            },
        };
        Ok(Server {
            place,
            sign_in: SignIn {
                user: or_given(&self.user, &query.user).ok_or(REDIS_EXPECTED)?,
                password: or_given(&self.password, &query.password).ok_or(REDIS_EXPECTED)?,
            },
            database: i64::from(database),
        })
    }

    /// The URL as redis-py reads it. `tuning`: options, each behind an `&`.
    fn for_python(&self, server: &Server, tuning: &str) -> String {
        let (database, SignIn { user, password }) = (server.database, &server.sign_in);
        if self.is_unix {
            let who = [("username", user), ("password", password)];
            let who = who.into_iter().filter(|(_, value)| !value.is_empty());
            let who: String = who
                .map(|(name, value)| format!("&{name}={}", encoded(value)))
                .collect();
            return format!("unix://{}?db={database}{who}{tuning}", self.path);
        }
        let scheme = if self.tls { "rediss" } else { "redis" };
        let who = match (user.as_str(), password.as_str()) {
            ("", "") => String::new(),
            (user, "") => format!("{}@", encoded(user)),
            (user, password) => format!("{}:{}@", encoded(user), encoded(password)),
        };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let options = tuning.strip_prefix('&').map(|tuning| format!("?{tuning}"));
        let options = options.unwrap_or_default();
        format!("{scheme}://{who}{}{port}/{database}{options}", self.host)
    }
}

/// A host without the brackets of IPv6; as in redis-py it is this one if the URL has none.
fn host(text: &str) -> Result<String, String> {
    match text.trim_matches(['[', ']']) {
        "" => Ok("localhost".to_owned()),
        "0.0.0.0" | "::" => Err("a URL with a server's host, which no wildcard is".to_owned()),
        host => Ok(host.to_owned()),
    }
}

/// Options that tune a client. Ours has limits of its own; the jobs' own connections heed them.
const TUNING: [(&str, Kind); 7] = [
    ("socket_timeout", Kind::Seconds),
    ("socket_connect_timeout", Kind::Seconds),
    ("socket_keepalive", Kind::YesOrNo),
    ("retry_on_timeout", Kind::YesOrNo),
    ("health_check_interval", Kind::Whole),
    ("max_connections", Kind::Whole),
    ("client_name", Kind::Text),
];
const FILES: [&str; 3] = ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"];

#[derive(Clone, Copy)]
enum Kind {
    Seconds,
    Whole,
    YesOrNo,
    Text,
}

impl Kind {
    fn holds(self, value: &str) -> bool {
        match self {
            Kind::Seconds => value
                .parse::<f64>()
                .is_ok_and(|number| number.is_finite() && number > 0.0),
            Kind::Whole => value.parse::<u32>().is_ok(),
            Kind::YesOrNo => is_yes(value).is_some(),
            Kind::Text => true,
        }
    }
}

/// Source: redis-py, `to_bool`, `FALSE_STRINGS`; other texts than these are a slip of the finger.
fn is_yes(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "y" | "yes" => Some(true),
        "" | "0" | "f" | "false" | "n" | "no" => Some(false),
        _ => None,
    }
}

/// What the query says.
#[derive(Default)]
struct Query {
    database: Option<u32>,
    user: String,
    password: String,
    files: [Option<String>; 3],
    /// Options of [`TUNING`], each behind an `&`.
    tuning: String,
}

impl Query {
    /// The error says what was expected instead, with the option's name.
    fn read(query: &str) -> Result<Self, String> {
        let mut found = Query::default();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = decoded(&value.replace('+', " "))
                .ok_or_else(|| format!("a URL whose option `{name}` is text in UTF-8"))?;
            found.heed(name, value)?;
        }
        Ok(found)
    }

    fn heed(&mut self, name: &str, value: String) -> Result<(), String> {
        if let Some((_, kind)) = TUNING.iter().find(|(known, _)| *known == name) {
            if !kind.holds(&value) {
                return Err(format!(
                    "a URL whose option `{name}` holds another value than {value:?}"
                ));
            }
            let _ = write!(self.tuning, "&{name}={}", encoded(&value));
        } else if let Some(at) = FILES.iter().position(|known| *known == name) {
            self.files[at] = Some(value);
        } else {
            match name {
                "db" => {
                    let number = value.parse::<u32>().map_err(|_| {
                        format!("a URL whose option `db` is a database's number, and not {value:?}")
                    })?;
                    self.database = Some(number);
                }
                "username" | "user" => self.user = value,
                "password" | "pass" => self.password = value,
                _ => held_in_any_case(name, &value)?,
            }
        }
        Ok(())
    }
}

/// Options with one value that always holds here; another is refused with the reason.
fn held_in_any_case(name: &str, value: &str) -> Result<(), String> {
    let (holds, why) = match name {
        "ssl_cert_reqs" => (
            value == "required",
            "a server whose certificate does not hold is never used; name who vouches for it in `broker.tls_ca`",
        ),
        "ssl_check_hostname" => (
            is_yes(value) == Some(true),
            "the name in a server's certificate is always checked",
        ),
        "decode_responses" => (
            is_yes(value) == Some(false),
            "what is stored in Redis is bytes, and is read as such",
        ),
        "encoding" => (
            ["utf-8", "utf8"].contains(&value.to_ascii_lowercase().as_str()),
            "names are read as UTF-8",
        ),
        _ => {
            return Err(format!(
                "a URL without the option `{name}`, which is none that a pool knows"
            ));
        }
    };
    if holds {
        return Ok(());
    }
    Err(format!("a URL without the option `{name}={value}`: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RedisUrl {
        RedisUrl::parse(text).unwrap()
    }

    fn server(text: &str) -> Server {
        match read(text).address {
            Address::Server(server) => server,
            Address::Sentinels(sentinels) => panic!("{text}: {sentinels:?}"),
        }
    }

    fn place(text: &str) -> String {
        let Server { place, database, .. } = server(text);
        match place {
            Place::Tcp { host, port, tls } => format!("{host} {port} {tls} {database}"),
            Place::Unix(path) => format!("{} {database}", path.display()),
        }
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        assert_eq!(place("redis://h"), "h 6379 false 0");
        assert_eq!(place("rediss://h:1/2"), "h 1 true 2");
        assert_eq!(place("redis://[::1]:7/2"), "::1 7 false 2");
        assert_eq!(place("redis:///2"), "localhost 6379 false 2");
        assert!(RedisUrl::parse("redis://0.0.0.0").is_err());
    }

    #[test]
    fn the_database_of_the_query_is_heeded_and_wins() {
        assert_eq!(place("redis://h:6379?db=3"), "h 6379 false 3");
        assert_eq!(place("redis://h:6379/1?db=3"), "h 6379 false 3");
        assert_eq!(place("unix:///run/r.sock?db=2"), "/run/r.sock 2");
        assert_eq!(place("redis+unix:///run/a%20b.sock"), "/run/a b.sock 0");
    }

    #[test]
    fn who_signs_in_may_stand_in_the_query() {
        let who = |text| {
            let SignIn { user, password } = server(text).sign_in;
            format!("{user}:{password}")
        };
        let url = "redis://h?username=ann&password=p%40ss";
        assert_eq!(who(url), "ann:p@ss");
        assert_eq!(read(url).python, "redis://ann:p%40ss@h/0");
        assert_eq!(who("redis://:first@h?password=second"), ":first");
        let socket = "unix:///r.sock?password=p%26";
        assert_eq!(who(socket), ":p&");
        assert_eq!(read(socket).python, "unix:///r.sock?db=0&password=p%26");
    }

    #[test]
    fn what_tunes_a_client_reaches_the_connections_of_jobs() {
        let found = read("rediss://h/2?socket_timeout=5&ssl_cert_reqs=required&ssl_ca_certs=%2Fca.pem");
        assert_eq!(found.python, "rediss://h/2?socket_timeout=5");
        assert_eq!(found.files[0].as_deref(), Some("/ca.pem"));
    }

    #[test]
    fn other_options_are_refused_by_name() {
        for (url, said) in [
            (
                "rediss://h?ssl_cert_reqs=none",
                "`ssl_cert_reqs=none`: a server whose",
            ),
            ("redis://h?decode_responses=True", "`decode_responses=True`"),
            ("redis://h?socket_timeout=soon", "`socket_timeout`"),
            ("redis://h?db=three", "`db`"),
            ("redis://h?ssl_ca_certs=/ca.pem", "`rediss://`"),
            ("redis://h?retries=3", "`retries`, which is none"),
            ("unix:///r.sock?path=x", "`path`"),
        ] {
            let refusal = RedisUrl::parse(url).unwrap_err();
            assert!(refusal.contains(said), "{url}: {refusal}");
        }
    }
}
