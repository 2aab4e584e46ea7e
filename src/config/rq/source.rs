//! What RQ's settings say: a settings module (`rq worker --config`), or else the variables `REDIS_URL`, `REDIS_HOST` …
//! Pure. Source: `rq/cli/helpers.py`, `get_redis_from_config`.

use serde_json::{Map, Value};

use crate::config::dialect::Said;
use crate::config::url::encoded;

/// The settings that are read, of a module or of the environment.
pub(in crate::config) const NAMES: [&str; 14] = [
    "REDIS_URL",
    "REDIS_HOST",
    "REDIS_PORT",
    "REDIS_DB",
    "REDIS_PASSWORD",
    "REDIS_SSL",
    "REDIS_SSL_CA_CERTS",
    "REDIS_SSL_CA_DATA",
    "REDIS_SSL_CERT_REQS",
    "REDIS_SSL_KEYFILE",
    "REDIS_SSL_CERTFILE",
    "SENTINEL",
    "QUEUES",
    "NAME",
];

/// Our flags for these settings, without the server's if nobody wants to know; the error says which setting can't
/// hold, and why.
pub(in crate::config) fn said(settings: &Map<String, Value>, wants_server: bool) -> Result<Said, String> {
    let mut said = Said::new();
    if wants_server {
        server(settings, &mut said)?;
    }
    if let Some(queues) = given(settings, "QUEUES") {
        let names = queues.as_array().map(|all| all.iter().map(text).collect());
        let names: Option<Vec<String>> = names.unwrap_or_default();
        let names = names.filter(|names| !names.is_empty());
        let names = names.ok_or("`QUEUES` is no list of names")?;
        said.insert("queue", (names, "QUEUES"));
    }
    if let Some(name) = given(settings, "NAME").and_then(text) {
        said.insert("name", (vec![name], "NAME"));
    }
    Ok(said)
}

fn given<'s>(settings: &'s Map<String, Value>, name: &str) -> Option<&'s Value> {
    settings.get(name).filter(|value| !value.is_null())
}

/// A value as text, where it is one or a number.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn server(settings: &Map<String, Value>, said: &mut Said) -> Result<(), String> {
    let url = |url: String, name| ("broker", (vec![url], name));
    if let Some(given) = given(settings, "REDIS_URL") {
        let given = text(given).ok_or("`REDIS_URL` is no text")?;
        said.extend([url(given, "REDIS_URL")]);
        return Ok(());
    }
    if let Some(sentinel) = given(settings, "SENTINEL") {
        said.extend([url(sentinels(sentinel)?, "SENTINEL")]);
        return Ok(());
    }
    let part = |name: &str, default: &str| given(settings, name).and_then(text).unwrap_or(default.to_owned());
    let tls = is_true(given(settings, "REDIS_SSL"))?;
    if !tls && !settings.keys().any(|name| name.starts_with("REDIS_")) {
        return Ok(());
    }
    let who = match part("REDIS_PASSWORD", "").as_str() {
        "" => String::new(),
        password => format!(":{}@", encoded(password)),
    };
    let (host, port, db) = (
        part("REDIS_HOST", "localhost"),
        part("REDIS_PORT", "6379"),
        part("REDIS_DB", "0"),
    );
    let scheme = if tls { "rediss" } else { "redis" };
    let name = if settings.contains_key("REDIS_HOST") {
        "REDIS_HOST"
    } else {
        "REDIS_PORT"
    };
    said.extend([url(format!("{scheme}://{who}{host}:{port}/{db}"), name)]);
    if tls {
        certificates(settings, said)?;
    }
    Ok(())
}

fn certificates(settings: &Map<String, Value>, said: &mut Said) -> Result<(), String> {
    if given(settings, "REDIS_SSL_CA_DATA").is_some() {
        return Err(
            "`REDIS_SSL_CA_DATA` can't be used: write it to a file, and name that in `REDIS_SSL_CA_CERTS`"
                .to_owned(),
        );
    }
    let checks = given(settings, "REDIS_SSL_CERT_REQS").and_then(text);
    if let Some(checks) = checks.filter(|checks| checks != "required") {
        return Err(format!(
            "`REDIS_SSL_CERT_REQS` is {checks:?}: a server whose certificate does not hold is never used; name who vouches \
             for it in `REDIS_SSL_CA_CERTS`"
        ));
    }
    for (flag, name) in [
        ("tls-ca", "REDIS_SSL_CA_CERTS"),
        ("tls-cert", "REDIS_SSL_CERTFILE"),
        ("tls-key", "REDIS_SSL_KEYFILE"),
    ] {
        if let Some(path) = given(settings, name).and_then(text) {
            said.insert(flag, (vec![path], name));
        }
    }
    Ok(())
}

/// `SENTINEL` as a URL of ours.
fn sentinels(settings: &Value) -> Result<String, String> {
    let part = |name: &str| settings.get(name).filter(|value| !value.is_null());
    let word = |name: &str, default: &str| part(name).and_then(text).unwrap_or(default.to_owned());
    let mut query = String::new();
    for (kwargs, known) in [
        ("SENTINEL_KWARGS", ["username", "password"].as_slice()),
        ("CONNECTION_KWARGS", &[]),
    ] {
        for (name, value) in part(kwargs).and_then(Value::as_object).into_iter().flatten() {
            let value = text(value).filter(|_| known.contains(&name.as_str()));
            let value = value.ok_or_else(|| {
                format!("`{kwargs}` of `SENTINEL` has `{name}`, an argument of Python's client that can't be had here")
            })?;
            let separator = if query.is_empty() { '?' } else { '&' };
            query.push_str(&format!("{separator}sentinel_{name}={}", encoded(&value)));
        }
    }
    let instance = |one: &Value| Some(format!("{}:{}", text(one.get(0)?)?, text(one.get(1)?)?));
    let instances: Option<Vec<String>> = match part("INSTANCES") {
        None => Some(vec!["localhost:26379".to_owned()]),
        Some(all) => all.as_array().and_then(|all| all.iter().map(instance).collect()),
    };
    let instances = instances.ok_or("`INSTANCES` of `SENTINEL` is no list of hosts with their ports")?;
    let scheme = if is_true(part("SSL"))? { "rediss" } else { "redis" };
    let who = match (word("USERNAME", ""), word("PASSWORD", "")) {
        (user, password) if user.is_empty() && password.is_empty() => String::new(),
        (user, password) => format!("{}:{}@", encoded(&user), encoded(&password)),
    };
    let (master, db) = (word("MASTER_NAME", "mymaster"), word("DB", "0"));
    Ok(format!(
        "{scheme}+sentinel://{who}{}/{master}/{db}{query}",
        instances.join(",")
    ))
}

/// Source: `rq/cli/helpers.py`, where a text means yes or no.
fn is_true(value: Option<&Value>) -> Result<bool, String> {
    match value {
        None => Ok(false),
        Some(Value::Bool(yes)) => Ok(*yes),
        Some(Value::String(text)) => match text.to_lowercase().as_str() {
            "y" | "yes" | "t" | "true" => Ok(true),
            "n" | "no" | "f" | "false" | "" => Ok(false),
            _ => Err(format!("`REDIS_SSL` is {text:?}; expected \"True\" or \"False\"")),
        },
        Some(other) => Err(format!("`REDIS_SSL` is {other}; expected True or False")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn flags(settings: Value) -> Result<BTreeMap<&'static str, String>, String> {
        let said = said(settings.as_object().unwrap(), true)?;
        Ok(said
            .into_iter()
            .map(|(flag, (texts, _))| (flag, texts.join(",")))
            .collect())
    }

    fn broker(settings: Value) -> String {
        flags(settings).unwrap().remove("broker").unwrap_or_default()
    }

    #[test]
    fn a_url_is_stronger_than_its_parts() {
        assert_eq!(
            broker(json!({"REDIS_URL": "redis://a/1", "REDIS_HOST": "b"})),
            "redis://a/1"
        );
        assert_eq!(broker(json!({"REDIS_HOST": "b"})), "redis://b:6379/0");
        let parts =
            json!({"REDIS_HOST": "b", "REDIS_PORT": 7000, "REDIS_DB": "2", "REDIS_PASSWORD": "p@ss/word"});
        assert_eq!(broker(parts), "redis://:p%40ss%2Fword@b:7000/2");
        assert_eq!(
            broker(json!({"QUEUES": ["high"]})),
            "",
            "what is not said has our default"
        );
    }

    #[test]
    fn tls_is_said_with_its_files() {
        let settings =
            json!({"REDIS_SSL": "True", "REDIS_SSL_CA_CERTS": "/ca.pem", "REDIS_SSL_CERT_REQS": "required"});
        let flags = flags(settings).unwrap();
        assert_eq!(
            (flags["broker"].as_str(), flags["tls-ca"].as_str()),
            ("rediss://localhost:6379/0", "/ca.pem")
        );
    }

    #[test]
    fn sentinels_become_a_url() {
        let settings = json!({"SENTINEL": {
            "INSTANCES": [["s1", 26379], ["s2", 26380]], "MASTER_NAME": "main", "DB": 3, "PASSWORD": "x:y",
            "SENTINEL_KWARGS": {"password": "z"},
        }});
        let url = "redis+sentinel://:x%3Ay@s1:26379,s2:26380/main/3?sentinel_password=z";
        assert_eq!(broker(settings), url);
        assert_eq!(
            broker(json!({"SENTINEL": {}})),
            "redis+sentinel://localhost:26379/mymaster/0"
        );
    }

    #[test]
    fn what_can_not_hold_is_refused() {
        for (settings, said) in [
            (json!({"REDIS_SSL": "maybe"}), "REDIS_SSL"),
            (
                json!({"REDIS_SSL": true, "REDIS_SSL_CERT_REQS": "none"}),
                "REDIS_SSL_CERT_REQS",
            ),
            (
                json!({"REDIS_SSL": true, "REDIS_SSL_CA_DATA": "x"}),
                "REDIS_SSL_CA_CERTS",
            ),
            (
                json!({"SENTINEL": {"SENTINEL_KWARGS": {"ssl": true}}}),
                "SENTINEL_KWARGS",
            ),
            (
                json!({"SENTINEL": {"CONNECTION_KWARGS": {"x": "1"}}}),
                "CONNECTION_KWARGS",
            ),
            (json!({"QUEUES": "high"}), "QUEUES"),
        ] {
            assert!(flags(settings).unwrap_err().contains(said), "{said}");
        }
    }
}
