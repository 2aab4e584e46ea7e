//! URLs as kombu takes them apart. Source: `kombu/utils/url.py`, `url_to_parts`.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;

/// A URL's parts, decoded.
pub(super) struct Parts {
    pub scheme: String,
    pub user: String,
    pub password: String,
    pub host: String,
    pub port: Option<String>,
    pub path: String,
    pub query: HashMap<String, String>,
}

impl Parts {
    pub fn of(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or("its URL has no scheme, such as `redis://`")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (sign_in, host) = place.rsplit_once('@').unwrap_or(("", place));
        let (user, password) = sign_in.split_once(':').unwrap_or((sign_in, ""));
        let (host, port) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => host
                .split_once(':')
                .map_or((host, None), |(host, port)| (host, Some(port))),
        };
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=')?;
            Some((decoded(&key.replace('+', " ")), decoded(&value.replace('+', " "))))
        };
        Ok(Parts {
            scheme: scheme.to_owned(),
            user: decoded(user),
            password: decoded(password),
            host: decoded(host),
            port: port.filter(|port| !port.is_empty()).map(str::to_owned),
            path: decoded(path),
            query: query.split('&').filter_map(pair).collect(),
        })
    }

    pub fn host_and_port(&self, default: u16) -> Result<(String, u16), String> {
        let host = if self.host.is_empty() {
            "localhost"
        } else {
            &self.host
        };
        let port = match &self.port {
            None => default,
            Some(port) => port
                .parse()
                .map_err(|_| "the port of its URL is no number of a port".to_owned())?,
        };
        Ok((host.to_owned(), port))
    }
}
