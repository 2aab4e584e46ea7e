//! Sentinels in a URL: `redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/MASTER/DATABASE`, and behind it
//! `?sentinel_username=…&sentinel_password=…` where the Sentinels ask for them.

use super::text::decoded;
use crate::broker::redis::options::{Sentinels, SignIn};

/// The port of a Sentinel. Source: `sentinel.conf`.
const PORT: u16 = 26379;

/// The Sentinels that a URL names; `None`: it names one server. The error says what was expected.
pub(super) fn parse(url: &str) -> Option<Result<Sentinels, String>> {
    let (scheme, rest) = url.split_once("://")?;
    let tls = match scheme {
        "redis+sentinel" => false,
        "rediss+sentinel" => true,
        _ => return None,
    };
    let expected = || "Sentinels such as `redis+sentinel://HOST:26379,HOST:26379/MASTER/0`".to_owned();
    Some(read(tls, rest).ok_or_else(expected))
}

fn read(tls: bool, rest: &str) -> Option<Sentinels> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (credentials, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let mut parts = rest.split('/');
    let hosts = parts.next()?.split(',').filter(|host| !host.is_empty());
    let hosts: Vec<(String, u16)> = hosts.map(host_and_port).collect::<Option<_>>()?;
    let master = parts.next().filter(|name| !name.is_empty())?.to_owned();
    let database = match parts.next() {
        None | Some("") => 0,
        Some(number) => number.parse().ok()?,
    };
    if hosts.is_empty() || parts.next().is_some() {
        return None;
    }
    let mut sign_in = SignIn::default();
    for option in query.split('&').filter(|option| !option.is_empty()) {
        match option.split_once('=')? {
            ("sentinel_username", user) => sign_in.user = decoded(user)?,
            ("sentinel_password", password) => sign_in.password = decoded(password)?,
            _ => return None,
        }
    }
    Some(Sentinels {
        tls,
        hosts,
        sign_in,
        master,
        at_server: SignIn {
            user: decoded(user)?,
            password: decoded(password)?,
        },
        database,
    })
}

/// `HOST:PORT`, `HOST`, `[::1]:PORT` or `[::1]`.
fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (text, PORT),
    };
    let host = host.trim_matches(['[', ']']);
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(url: &str) -> Sentinels {
        parse(url).unwrap().unwrap()
    }

    #[test]
    fn sentinels_read_with_all_that_is_said_of_them() {
        let found = found("rediss+sentinel://u:p%40ss@a:1,b/mymaster/3?sentinel_password=s%26");
        assert_eq!(found.hosts, [("a".to_owned(), 1), ("b".to_owned(), 26379)]);
        let SignIn { user, password } = &found.at_server;
        assert_eq!((user.as_str(), password.as_str()), ("u", "p@ss"));
        assert_eq!(
            (found.master.as_str(), found.database, found.tls),
            ("mymaster", 3, true)
        );
        let SignIn { user, password } = &found.sign_in;
        assert_eq!((user.as_str(), password.as_str()), ("", "s&"));
    }

    #[test]
    fn a_host_may_be_a_number_of_ipv6() {
        let found = found("redis+sentinel://[::1],[fe80::1]:5/m");
        assert_eq!(
            found.hosts,
            [("::1".to_owned(), 26379), ("fe80::1".to_owned(), 5)]
        );
    }

    #[test]
    fn what_names_none_is_refused() {
        assert!(parse("redis://a/1").is_none());
        for wrong in [
            "redis+sentinel://a:1",
            "redis+sentinel:///m",
            "redis+sentinel://a/m/x",
            "redis+sentinel://a:port/m",
            "redis+sentinel://a/m?db=1",
            "redis+sentinel://:%zz@a/m",
        ] {
            assert!(parse(wrong).unwrap().is_err(), "{wrong}");
        }
    }
}
