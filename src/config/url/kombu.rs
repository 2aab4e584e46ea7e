//! URLs of brokers that kombu, Python's messaging library, reads. They are handed on as they are: kombu takes them apart. Pure.

use std::fmt;

use super::text::without_secrets;

/// Schemes that only it knows. Source: `kombu/transport/__init__.py`, `TRANSPORT_ALIASES`.
const SCHEMES: [&str; 6] = [
    "sentinel",
    "redis+socket",
    "amqp",
    "amqps",
    "pyamqp",
    "librabbitmq",
];

/// A URL, or several of them with `;` between, one of which answers.
#[derive(Clone, PartialEq, Eq)]
pub struct KombuUrl(String);

impl KombuUrl {
    /// `None`: it is no URL that only kombu knows.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let scheme = text.split_once("://")?.0;
        let is_list = text.split(';').count() > 1 && text.split(';').skip(1).all(|one| one.contains("://"));
        let is_redis = ["redis", "rediss"].contains(&scheme);
        (SCHEMES.contains(&scheme) || is_list && is_redis).then(|| KombuUrl(text.to_owned()))
    }

    /// With its secrets; not for a log.
    pub fn with_secrets(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KombuUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_secrets(&self.0))
    }
}

/// Not derived: it would show the password.
impl fmt::Debug for KombuUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KombuUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_know_too_is_not_kombus_alone() {
        for url in [
            "redis://h/0",
            "rediss://u:p;w@h/0",
            "sqlite:a",
            "kafka://h",
            "memory:",
            "app:proj",
        ] {
            assert_eq!(KombuUrl::parse(url), None, "{url}");
        }
        for url in [
            "sentinel://a:26379;sentinel://b:26379",
            "redis+socket:///run/redis.sock?virtual_host=1",
            "redis://a/0;redis://b/0",
            "amqp://guest@localhost//",
        ] {
            assert!(KombuUrl::parse(url).is_some(), "{url}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let url = KombuUrl::parse("sentinel://:secret@a;sentinel://:secret@b").unwrap();
        assert!(!format!("{url} {url:?}").contains("secret"));
    }
}
