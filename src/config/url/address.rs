//! Which broker a URL names, for those who ask whether two URLs name the same one. Pure.

use std::fmt::Write;

use super::BrokerUrl;
use crate::broker::redis::options::{Address, Place, Server};

/// Longest part of a socket's name that comes from the address.
const LABEL_LEN_MAX: usize = 40;

impl BrokerUrl {
    /// The broker's address in one form, whatever the URL looks like: no user, no password, no options, the port and
    /// the database's number always there, this host by one name. Two URLs name the same broker when it is the same.
    pub fn address(&self) -> String {
        match self {
            BrokerUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
            BrokerUrl::Memory => "memory:".to_owned(),
            BrokerUrl::Redis(url) => redis_address(url.address()),
            BrokerUrl::Kombu(_) | BrokerUrl::App(_) => self.to_string(),
        }
    }

    /// The address as a part of a file's name: readable, and different for different addresses.
    pub(in crate::config) fn label(&self) -> String {
        let address = self.address();
        let address = address
            .split_once("://")
            .map_or(address.as_str(), |(_, rest)| rest);
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        };
        let mut label: String = address.chars().map(plain).take(LABEL_LEN_MAX).collect();
        let is_whole = address.chars().count() <= LABEL_LEN_MAX;
        // Host, port and number can't be confused; a path or a list can.
        if !is_whole || address.contains([',', '-']) || address.matches('/').count() != 1 {
            let _ = write!(label, "-{:08x}", checksum(address));
        }
        label
    }
}

fn redis_address(address: &Address) -> String {
    match address {
        Address::Sentinels(sentinels) => {
            let hosts = sentinels.hosts.iter();
            let mut hosts: Vec<String> = hosts.map(|(host, port)| one_name(host, *port)).collect();
            hosts.sort();
            let (hosts, master) = (hosts.join(","), &sentinels.master);
            format!("redis+sentinel://{hosts}/{master}/{}", sentinels.database)
        }
        Address::Server(Server { place, database, .. }) => match place {
            Place::Tcp { host, port, .. } => format!("redis://{}/{database}", one_name(host, *port)),
            Place::Unix(path) => format!("redis+unix://{}/{database}", path.display()),
        },
    }
}

/// `HOST:PORT` in small letters, this host as `localhost`.
fn one_name(host: &str, port: u16) -> String {
    match host.to_ascii_lowercase().as_str() {
        "" | "127.0.0.1" | "::1" => format!("localhost:{port}"),
        host => format!("{host}:{port}"),
    }
}

/// FNV-1a, 32 bits. Source: the IETF draft "The FNV Non-Cryptographic Hash Algorithm". Not a secret: names files.
pub(in crate::config) fn checksum(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |sum, byte| {
        (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn url(text: &str) -> BrokerUrl {
        BrokerUrl::parse(text, Path::to_path_buf).unwrap()
    }

    #[test]
    fn what_names_the_same_broker_has_the_same_address() {
        for (one, other) in [
            ("redis://localhost", "redis://127.0.0.1:6379/0"),
            ("redis://u:p@Cache.example", "rediss://cache.example:6379/0"),
            ("redis://h/3", "redis://:secret@h:6379/3"),
            ("redis+unix:///run/r.sock?db=2", "unix:///run/r.sock?db=2"),
            ("redis+sentinel://a:1,b:2/m/0", "redis+sentinel://:pw@b:2,a:1/m"),
            ("sqlite:/a/b.db", "sqlite:///a/b.db"),
        ] {
            assert_eq!(url(one).address(), url(other).address(), "{one} {other}");
            assert_eq!(url(one).label(), url(other).label(), "{one} {other}");
        }
    }

    #[test]
    fn different_brokers_have_different_addresses_and_sockets() {
        let urls = [
            "redis://h",
            "redis://h:6380",
            "redis://h/1",
            "redis://other/1",
            "redis://a-b:1",
            "redis://a.b:1",
            "redis+unix:///run/a-b.sock",
            "redis+unix:///run/a/b.sock",
            "redis+unix:///run/a/b.sock?db=1",
            "redis+sentinel://a:1/m",
            "redis+sentinel://a:1/n",
            "redis://a-name-that-is-longer-than-any-file-name-should-be.example:6379/1",
            "redis://a-name-that-is-longer-than-any-file-name-should-be.example:6379/2",
        ];
        for of in [BrokerUrl::address, BrokerUrl::label] {
            let found: std::collections::BTreeSet<String> = urls.iter().map(|text| of(&url(text))).collect();
            assert_eq!(found.len(), urls.len(), "{found:?}");
        }
        assert_eq!(url("redis://h/3").label(), "h-6379-3");
    }

    #[test]
    fn an_address_holds_no_secret() {
        for text in [
            "redis://user:secret@h/1",
            "redis+sentinel://user:secret@a:1/m/0?sentinel_password=secret",
        ] {
            let address = url(text).address();
            assert!(
                !address.contains("secret") && !address.contains("user"),
                "{address}"
            );
        }
    }
}
