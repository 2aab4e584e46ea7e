//! The options in the query of a Redis URL, as redis-py reads them. Pure.
//!
//! Source: redis-py 5 and 6, `redis/connection.py`, `parse_url`, `URL_QUERY_ARGUMENT_PARSERS`, `ConnectionPool.from_url`.

use std::fmt::Write;

use super::broker_url::{REDIS_EXPECTED, decoded, encoded};

/// What the query says, less what is the server's part of the URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RedisOptions {
    /// The URL without a query, or for a Unix socket with the one that our client reads.
    pub client: String,
    /// The URL for redis-py, with the options that hold for the connections of the jobs' own code.
    pub python: String,
    /// `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`: as `broker.tls_ca` and its like.
    pub files: [Option<String>; 3],
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

/// Reads a URL of one server. The error says what was expected instead, with the option's name.
pub(super) fn read(text: &str) -> Result<RedisOptions, String> {
    let text = text.split('#').next().unwrap_or_default();
    let (address, query) = text.split_once('?').unwrap_or((text, ""));
    let mut found = RedisOptions::default();
    let (mut database, mut user, mut password) = (None, None, None);
    let mut tuning = String::new();
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = decoded(&value.replace('+', " "))
            .ok_or_else(|| format!("a URL whose option `{name}` is text in UTF-8"))?;
        if let Some((_, kind)) = TUNING.iter().find(|(known, _)| *known == name) {
            if !kind.holds(&value) {
                return Err(format!(
                    "a URL whose option `{name}` holds another value than {value:?}"
                ));
            }
            let _ = write!(tuning, "&{name}={}", encoded(&value));
        } else if let Some(at) = FILES.iter().position(|known| *known == name) {
            found.files[at] = Some(value);
        } else {
            match name {
                "db" => {
                    let number = value.parse::<u32>().map_err(|_| {
                        format!("a URL whose option `db` is a database's number, and not {value:?}")
                    })?;
                    database = Some(number);
                }
                "username" | "user" => user = Some(value),
                "password" | "pass" => password = Some(value),
                _ => held_in_any_case(name, &value)?,
            }
        }
    }
    let plain = redis::parse_redis_url(address).ok_or(REDIS_EXPECTED)?;
    let (is_tls, is_unix) = (plain.scheme() == "rediss", plain.scheme().ends_with("unix"));
    if let Some(name) = FILES
        .iter()
        .zip(&found.files)
        .find_map(|(name, file)| file.as_ref().map(|_| name))
        && !is_tls
    {
        return Err(format!(
            "a URL with `rediss://`, since it has the option `{name}`"
        ));
    }
    // As in redis-py the query's database wins, and the user and the password before the host do.
    if !is_unix && database.is_none() {
        database = match plain.path().trim_matches('/') {
            "" => Some(0),
            number => Some(number.parse().map_err(|_| REDIS_EXPECTED.to_owned())?),
        };
    }
    if !plain.username().is_empty() {
        user = decoded(plain.username());
    }
    if let Some(given) = plain.password() {
        password = decoded(given);
    }
    let (user, password) = (user.unwrap_or_default(), password.unwrap_or_default());
    let database = database.unwrap_or(0);
    if is_unix {
        let (path, mut who) = (plain.path(), String::new());
        for (name, value) in [("user", &user), ("pass", &password)] {
            if !value.is_empty() {
                let _ = write!(who, "&{name}={}", encoded(value));
            }
        }
        found.client = format!("redis+unix://{path}?db={database}{who}");
        let who = who
            .replace("&user=", "&username=")
            .replace("&pass=", "&password=");
        found.python = format!("unix://{path}?db={database}{who}{tuning}");
        return Ok(found);
    }
    let mut url = plain.clone();
    url.set_path(&database.to_string());
    let signed = url
        .set_username(&encoded(&user))
        .and_then(|()| url.set_password((!password.is_empty()).then_some(&*encoded(&password))));
    signed.map_err(|()| REDIS_EXPECTED.to_owned())?;
    found.client = url.to_string();
    found.python = match tuning.strip_prefix('&') {
        Some(tuning) => format!("{url}?{tuning}"),
        None => url.to_string(),
    };
    Ok(found)
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

    fn client(text: &str) -> String {
        read(text).unwrap().client
    }

    #[test]
    fn the_database_of_the_query_is_heeded_and_wins() {
        assert_eq!(client("redis://h:6379?db=3"), "redis://h:6379/3");
        assert_eq!(client("redis://h:6379/1?db=3"), "redis://h:6379/3");
        assert_eq!(client("redis://h/1"), "redis://h/1");
        assert_eq!(client("redis://h"), "redis://h/0");
        assert_eq!(client("unix:///run/r.sock?db=2"), "redis+unix:///run/r.sock?db=2");
        assert_eq!(
            client("redis+unix:///run/r.sock"),
            "redis+unix:///run/r.sock?db=0"
        );
    }

    #[test]
    fn who_signs_in_may_stand_in_the_query() {
        assert_eq!(
            client("redis://h?username=ann&password=p%40ss"),
            "redis://ann:p%40ss@h/0"
        );
        assert_eq!(client("redis://:first@h?password=second"), "redis://:first@h/0");
        let socket = read("unix:///r.sock?password=p%26").unwrap();
        assert_eq!(socket.client, "redis+unix:///r.sock?db=0&pass=p%26");
        assert_eq!(socket.python, "unix:///r.sock?db=0&password=p%26");
    }

    #[test]
    fn what_tunes_a_client_reaches_the_connections_of_jobs() {
        let found =
            read("rediss://h/2?socket_timeout=5&ssl_cert_reqs=required&ssl_ca_certs=%2Fca.pem").unwrap();
        assert_eq!(
            (found.client.as_str(), found.python.as_str()),
            ("rediss://h/2", "rediss://h/2?socket_timeout=5")
        );
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
            let refusal = read(url).unwrap_err();
            assert!(refusal.contains(said), "{url}: {refusal}");
        }
    }
}
