//! URLs of Redis servers as kombu reads them. Source: `kombu/transport/redis.py`, `_connparams`.

use std::path::PathBuf;

use serde_json::Value;

use super::facts::TransportOptions;
use super::url::Parts;
use crate::broker::redis::options::{Address, Certificates, Options, Place, Sentinels, Server, SignIn};

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// The server that the first of these URLs names, and the others, which are tried when it does not answer; of
/// `sentinel://`, all of them name Sentinels. An error never shows a secret.
pub(super) fn read(
    urls: &[String],
    options: &TransportOptions,
    ssl: Option<&Value>,
) -> Result<Options, String> {
    let urls: Vec<&str> = urls.iter().flat_map(|url| url.split(';')).collect();
    let first = urls.first().ok_or("it names no server")?;
    let parts = Parts::of(first)?;
    let said_of_all = ssl;
    let ssl = Ssl::of(&parts, said_of_all)?;
    if parts.scheme == "sentinel" {
        let sign_in = SignIn {
            user: parts.user.clone(),
            password: parts.password.clone(),
        };
        return sentinels(&urls, &parts, options, &ssl, sign_in);
    }
    let (server, shown) = server(&parts, ssl.is_on)?;
    let mut all = vec![shown];
    let mut others = Vec::new();
    for url in &urls[1..] {
        let parts = Parts::of(url)?;
        let (other, shown) = self::server(&parts, Ssl::of(&parts, said_of_all)?.is_on)?;
        others.push(other);
        all.push(shown);
    }
    Ok(Options {
        address: Address::Server(server),
        others,
        shown: all.join(";"),
        certificates: ssl.certificates,
    })
}

/// One server, and its address for messages.
fn server(parts: &Parts, tls: bool) -> Result<(Server, String), String> {
    let sign_in = SignIn {
        user: parts.user.clone(),
        password: parts.password.clone(),
    };
    let (place, shown) = match parts.scheme.as_str() {
        "redis" | "rediss" => {
            let (host, port) = parts.host_and_port(PORT)?;
            let shown = format!("{}://{}:{port}", parts.scheme, in_url(&host));
            (Place::Tcp { host, port, tls }, shown)
        }
        "redis+socket" | "socket" => {
            let path = PathBuf::from(format!("/{}", parts.path));
            let shown = format!("redis+socket://{}", path.display());
            (Place::Unix(path), shown)
        }
        other => return Err(format!("`{other}://` is no URL of a Redis server")),
    };
    let database = match &place {
        Place::Tcp { .. } => number(&parts.path)?,
        Place::Unix(_) => number(parts.query.get("virtual_host").map_or("", String::as_str))?,
    };
    let server = Server {
        place,
        sign_in,
        database,
    };
    Ok((server, format!("{shown}/{database}")))
}

fn sentinels(
    urls: &[&str],
    first: &Parts,
    options: &TransportOptions,
    ssl: &Ssl,
    at_server: SignIn,
) -> Result<Options, String> {
    let master = options.master_name.clone();
    let master = master.ok_or("a URL of Sentinels needs the transport option master_name")?;
    let hosts: Result<Vec<_>, String> = urls
        .iter()
        .map(|url| Parts::of(url)?.host_and_port(SENTINEL_PORT))
        .collect();
    let hosts = hosts?;
    let database = number(&first.path)?;
    let shown: Vec<_> = hosts
        .iter()
        .map(|(host, port)| format!("{}:{port}", in_url(host)))
        .collect();
    let at_sentinels = options.sentinel_kwargs.as_ref();
    let said = |text: Option<&String>| text.cloned().unwrap_or_default();
    Ok(Options {
        others: Vec::new(),
        shown: format!("sentinel://{}/{database} ({master})", shown.join(",")),
        address: Address::Sentinels(Sentinels {
            tls: ssl.is_on || at_sentinels.is_some_and(|said| said.ssl == Some(true)),
            hosts,
            sign_in: SignIn {
                user: said(at_sentinels.and_then(|said| said.username.as_ref())),
                password: said(at_sentinels.and_then(|said| said.password.as_ref())),
            },
            master,
            at_server,
            database,
        }),
        certificates: ssl.certificates.clone(),
    })
}

/// Whether both are one server, whatever their databases.
pub(super) fn is_same_server(one: &Options, other: &Options) -> bool {
    if !one.others.is_empty() || !other.others.is_empty() {
        return false; // who knows which of them each has reached
    }
    match (&one.address, &other.address) {
        (Address::Server(one), Address::Server(other)) => {
            let same_place = match (&one.place, &other.place) {
                (
                    Place::Tcp { host, port, .. },
                    Place::Tcp {
                        host: host2,
                        port: port2,
                        ..
                    },
                ) => (host, port) == (host2, port2),
                (one, other) => one == other,
            };
            // Another user may have other rights.
            same_place && one.sign_in == other.sign_in
        }
        (Address::Sentinels(one), Address::Sentinels(other)) => {
            (&one.hosts, &one.master, &one.at_server) == (&other.hosts, &other.master, &other.at_server)
        }
        _ => false,
    }
}

/// The number of its database.
pub(super) fn database(options: &Options) -> i64 {
    match &options.address {
        Address::Server(server) => server.database,
        Address::Sentinels(sentinels) => sentinels.database,
    }
}

/// A host as a URL holds it.
fn in_url(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// A database's number. Source: `kombu/transport/redis.py`, `_prepare_virtual_host`.
fn number(path: &str) -> Result<i64, String> {
    match path.strip_prefix('/').unwrap_or(path) {
        "" => Ok(0),
        text => {
            let number = text
                .parse()
                .ok()
                .filter(|number| (0..=i64::from(u16::MAX)).contains(number));
            number.ok_or_else(|| format!("`{text}` is no number of a database"))
        }
    }
}

/// What is said of TLS: by the scheme, by the URL's options, by `broker_use_ssl`.
struct Ssl {
    is_on: bool,
    certificates: Certificates,
}

impl Ssl {
    fn of(parts: &Parts, said: Option<&Value>) -> Result<Self, String> {
        let of = |key: &str| -> Option<String> {
            let said = said.and_then(|said| said.get(key)).map(|value| match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            said.or_else(|| parts.query.get(key).cloned())
        };
        // Source: `ssl.VerifyMode`: 0 is CERT_NONE; a client's CERT_OPTIONAL is CERT_REQUIRED.
        let unchecked = matches!(
            of("ssl_cert_reqs").as_deref(),
            Some("none" | "CERT_NONE" | "0" | "null")
        );
        let is_said = match said {
            None | Some(Value::Null) => false,
            Some(Value::Bool(is_on)) => *is_on,
            Some(_) => true,
        };
        let file = |key| {
            of(key)
                .filter(|path| !path.is_empty() && path != "null")
                .map(PathBuf::from)
        };
        Ok(Ssl {
            is_on: parts.scheme == "rediss" || is_said,
            certificates: Certificates {
                ca: file("ssl_ca_certs"),
                own: file("ssl_certfile"),
                key: file("ssl_keyfile"),
                unchecked,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Result<Options, String> {
        let options = TransportOptions {
            master_name: Some("main".to_owned()),
            ..TransportOptions::default()
        };
        read(&[url.to_owned()], &options, None)
    }

    fn server(url: &str) -> Server {
        match of(url).unwrap().address {
            Address::Server(server) => server,
            Address::Sentinels(_) => panic!("{url}"),
        }
    }

    #[test]
    fn a_url_is_read_as_kombu_reads_it() {
        let plain = server("redis://");
        let place = |host: &str, port, tls| Place::Tcp {
            host: host.to_owned(),
            port,
            tls,
        };
        assert_eq!(
            (plain.place, plain.database),
            (place("localhost", 6379, false), 0)
        );
        let full = server(
            "rediss://us%40er:p%3Aw%2F@h.example:7000/5?ssl_ca_certs=%2Fca.pem&ssl_cert_reqs=required",
        );
        assert_eq!((full.place, full.database), (place("h.example", 7000, true), 5));
        assert_eq!((&*full.sign_in.user, &*full.sign_in.password), ("us@er", "p:w/"));
        assert_eq!(
            server("redis://:pw@[::1]:7000//").place,
            place("::1", 7000, false)
        );
        let socket = server("redis+socket:///run/redis.sock?virtual_host=3");
        assert_eq!(
            (socket.place, socket.database),
            (Place::Unix("/run/redis.sock".into()), 3)
        );
    }

    #[test]
    fn a_certificate_is_checked_unless_nobody_wants_that() {
        for (asked, unchecked) in [
            ("", false),
            ("?ssl_cert_reqs=required", false),
            ("?ssl_cert_reqs=CERT_OPTIONAL", false),
            ("?ssl_cert_reqs=none", true),
            ("?ssl_cert_reqs=CERT_NONE", true),
        ] {
            let options = of(&format!("rediss://h{asked}")).unwrap();
            assert_eq!(options.certificates.unchecked, unchecked, "{asked}");
        }
    }

    #[test]
    fn further_servers_are_tried_in_turn() {
        let options = of("redis://:pw@a:1/2;rediss://b:3/4").unwrap();
        assert_eq!(options.shown, "redis://a:1/2;rediss://b:3/4");
        assert_eq!((options.others.len(), options.others[0].database), (1, 4));
        assert!(!is_same_server(&options, &options), "who knows which one");
    }

    #[test]
    fn sentinels_are_named_one_by_one() {
        let options = of("sentinel://:pw@a:1;sentinel://b;sentinel://c:3/2").unwrap();
        let Address::Sentinels(sentinels) = options.address else {
            panic!("no Sentinels");
        };
        let hosts = [("a", 1), ("b", 26379), ("c", 3)].map(|(host, port)| (host.to_owned(), port));
        assert_eq!(sentinels.hosts, hosts);
        assert_eq!(
            (&*sentinels.master, &*sentinels.at_server.password),
            ("main", "pw")
        );
        let error = read(&["sentinel://a".to_owned()], &TransportOptions::default(), None).unwrap_err();
        assert!(error.contains("master_name"), "{error}");
    }

    #[test]
    fn odd_urls_are_refused_without_their_secrets() {
        for url in [
            "",
            "secret",
            "amqp://u:secret@h",
            "redis://u:secret@h:port/0",
            "redis://u:secret@h/x",
            "redis://u:secret@h/-1",
            "redis://h;redis://u:secret@h/x",
        ] {
            let error = of(url).unwrap_err();
            assert!(!error.contains("secret"), "{url}: {error}");
        }
        assert!(read(&[], &TransportOptions::default(), None).is_err());
    }

    #[test]
    fn a_dictionary_says_what_a_url_may_say() {
        let ssl = serde_json::json!({"ssl_cert_reqs": 2, "ssl_ca_certs": "/ca.pem", "ssl_keyfile": null});
        let options = read(
            &["redis://h".to_owned()],
            &TransportOptions::default(),
            Some(&ssl),
        )
        .unwrap();
        assert_eq!(options.certificates.ca, Some("/ca.pem".into()));
        assert_eq!(options.certificates.key, None);
        assert!(matches!(
            options.address,
            Address::Server(Server {
                place: Place::Tcp { tls: true, .. },
                ..
            })
        ));
    }
}
