//! A request as it comes. Source: `kombu/pidbox.py`, `Mailbox._publish`, `Node.handle_message`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::broker::celery::publish::Content;

/// The content that is read here.
const JSON: &str = "application/json";

/// Where an answer goes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(in crate::broker::celery) struct ReplyTo {
    pub exchange: String,
    pub routing_key: String,
}

/// A request as it came.
#[derive(Debug)]
pub(in crate::broker::celery) enum Heard {
    Plain(Request),
    /// Its content is not plain JSON: the application's own code reads it.
    Encoded {
        content: Content,
        /// The time of who asks.
        clock: i64,
    },
}

/// What somebody asks.
#[derive(Debug, Default)]
pub(in crate::broker::celery) struct Request {
    /// The name of the command.
    pub method: String,
    pub arguments: Map<String, Value>,
    /// The time of who asks.
    pub clock: i64,
    /// `None`: nobody waits for an answer.
    pub reply_to: Option<ReplyTo>,
    pub ticket: Value,
    /// The nodes that are meant; none: all, or those that `pattern` names.
    pub destination: Vec<String>,
    /// Pattern and the name of who reads it.
    pub pattern: Option<(String, String)>,
    /// The message's own.
    pub content: Content,
}

#[derive(Deserialize)]
struct Envelope {
    body: String,
    #[serde(default, rename = "content-type")]
    content_type: Option<String>,
    #[serde(default, rename = "content-encoding")]
    content_encoding: Option<String>,
    #[serde(default)]
    headers: Option<Headers>,
    #[serde(default)]
    properties: Option<Properties>,
}

#[derive(Default, Deserialize)]
struct Headers {
    #[serde(default)]
    clock: Value,
    #[serde(default)]
    compression: Option<String>,
}

#[derive(Default, Deserialize)]
struct Properties {
    #[serde(default)]
    body_encoding: Option<String>,
}

#[derive(Deserialize)]
struct Body {
    method: String,
    #[serde(default)]
    arguments: Option<Map<String, Value>>,
    #[serde(default)]
    destination: Option<Destination>,
    #[serde(default)]
    pattern: Option<String>,
    #[serde(default)]
    matcher: Option<String>,
    #[serde(default)]
    ticket: Value,
    #[serde(default)]
    reply_to: Option<ReplyTo>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Destination {
    Nodes(Vec<String>),
    Node(String),
}

impl Request {
    /// Reads it. `takes_json`: the application accepts that. The error says why nobody could, in words that don't change
    /// with what was sent.
    pub fn read(message: &[u8], takes_json: bool) -> Result<Heard, String> {
        let envelope: Envelope = read(message, "it is no message of kombu's")?;
        let headers = envelope.headers.unwrap_or_default();
        let clock = headers.clock.as_i64().unwrap_or(0);
        let encoding = envelope
            .properties
            .and_then(|properties| properties.body_encoding);
        let body = match encoding.as_deref() {
            Some("base64") => STANDARD
                .decode(&envelope.body)
                .map_err(|_| "its body is no base64")?,
            _ => envelope.body.into_bytes(),
        };
        let content = Content {
            content_type: envelope.content_type.unwrap_or_else(|| JSON.to_owned()).into(),
            encoding: envelope
                .content_encoding
                .unwrap_or_else(|| "utf-8".to_owned())
                .into(),
            compression: headers.compression,
            body,
        };
        if !takes_json || content.content_type != JSON || content.compression.is_some() {
            return Ok(Heard::Encoded { content, clock });
        }
        let mut request = Self::of_body(&content.body)?;
        request.clock = clock;
        request.content = content;
        Ok(Heard::Plain(request))
    }

    /// Reads what is asked, without what goes with it in its message: JSON.
    pub fn of_body(body: &[u8]) -> Result<Self, String> {
        let body: Body = read(body, "its body is no request")?;
        let destination = match body.destination {
            None => Vec::new(),
            Some(Destination::Nodes(nodes)) => nodes,
            Some(Destination::Node(node)) => Vec::from_iter((!node.is_empty()).then_some(node)),
        };
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(Request {
            method: body.method,
            arguments: body.arguments.unwrap_or_default(),
            clock: 0,
            reply_to: body.reply_to,
            ticket: body.ticket,
            destination,
            pattern: some(body.pattern).zip(some(body.matcher)),
            content: Content::default(),
        })
    }

    /// Whether an argument asks for something.
    pub fn is_true(&self, name: &str) -> bool {
        match self.arguments.get(name) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(text)) => !matches!(&*text.to_lowercase(), "" | "0" | "false" | "no" | "off"),
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            Some(_) => true,
        }
    }

    /// An argument that must be given: a text, or a list of such. Whole numbers are ids, too. The error is a stock worker's exception.
    pub fn texts(&self, name: &str) -> Result<Vec<String>, String> {
        let Some(value) = self.arguments.get(name) else {
            let method = &self.method;
            return Err(format!(
                "TypeError(\"{method}() missing 1 required positional argument: '{name}'\")"
            ));
        };
        let texts = match value {
            Value::Null => Some(Vec::new()),
            Value::String(text) => Some(vec![text.clone()]),
            Value::Array(all) => all.iter().map(id).collect(),
            Value::Number(_) => id(value).map(|id| vec![id]),
            _ => None,
        };
        texts.ok_or_else(|| format!("TypeError('{name} is no text and no list of texts')"))
    }

    /// Whether it means this node. The error: nobody can tell.
    pub fn means(&self, node: &str) -> Result<bool, String> {
        if !self.destination.is_empty() {
            return Ok(self.destination.iter().any(|name| name == node));
        }
        let Some((pattern, matcher)) = &self.pattern else {
            return Ok(true);
        };
        // Source: `kombu/matcher.py`.
        let expression = match matcher.as_str() {
            "glob" => glob(pattern),
            "pcre" => format!("^(?:{pattern})"),
            _ => return Err("its matcher is neither `glob` nor `pcre`".to_owned()),
        };
        let expression = Regex::new(&expression).map_err(|_| "its pattern is no regular expression")?;
        Ok(expression.is_match(node))
    }
}

fn id(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_i64() => Some(number.to_string()),
        _ => None,
    }
}

fn read<'m, T: Deserialize<'m>>(from: &'m [u8], what: &str) -> Result<T, String> {
    serde_json::from_slice(from).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => format!("{what}: something is missing or of another type"),
        _ => format!("{what}, as it is no JSON"),
    })
}

/// A pattern of file names as a regular expression. Source: `fnmatch.translate` of Python.
fn glob(pattern: &str) -> String {
    let mut expression = String::from("(?s)^");
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match c {
            '*' => expression.push_str(".*"),
            '?' => expression.push('.'),
            '[' => match class(rest.as_str()) {
                Some((class, length)) => {
                    expression.push_str(&class);
                    rest = rest.as_str()[length..].chars();
                }
                None => expression.push_str("\\["),
            },
            c => expression.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    expression + "$"
}

/// What stands in square brackets, and how long it is; none if they are not closed.
fn class(rest: &str) -> Option<(String, usize)> {
    let (negation, inner) = match rest.strip_prefix('!') {
        Some(inner) => ("^", inner),
        None => ("", rest),
    };
    // The first one may be a bracket itself.
    let first = inner.chars().next()?.len_utf8();
    let end = first + inner[first..].find(']')?;
    let mut class = format!("[{negation}");
    for c in inner[..end].chars() {
        if matches!(c, '\\' | '[' | ']' | '^' | '&' | '~') {
            class.push('\\');
        }
        class.push(c);
    }
    class.push(']');
    Some((class, rest.len() - inner.len() + end + 1))
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A request as kombu sends it.
    pub fn message(body: &Value) -> Vec<u8> {
        let message = json!({
            "body": STANDARD.encode(body.to_string()), "content-encoding": "utf-8", "content-type": "application/json",
            "headers": {"clock": 3, "expires": 1795962467.1932414},
            "properties": {"delivery_mode": 2, "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""},
                "priority": 0, "body_encoding": "base64", "delivery_tag": "d"},
        });
        message.to_string().into_bytes()
    }

    fn plain(message: &[u8]) -> Request {
        match Request::read(message, true).unwrap() {
            Heard::Plain(request) => request,
            Heard::Encoded { content, .. } => panic!("{content:?}"),
        }
    }

    #[test]
    fn what_is_no_plain_json_is_for_the_application() {
        let yaml = br#"{"body": "{}", "content-type": "application/x-yaml", "headers": {"clock": 7}}"#;
        let zipped = br#"{"body": "{}", "headers": {"compression": "application/x-gzip", "clock": 7}}"#;
        let json = message(&json!({"method": "ping"}));
        for (message, takes_json) in [(&yaml[..], true), (zipped, true), (&json, false)] {
            let heard = Request::read(message, takes_json).unwrap();
            assert!(matches!(heard, Heard::Encoded { clock: 3 | 7, .. }), "{heard:?}");
        }
    }

    #[test]
    fn patterns_mean_the_nodes_that_they_mean_to_stock_workers() {
        let means = |pattern: &str, matcher: &str| {
            let body = json!({"method": "ping", "pattern": pattern, "matcher": matcher});
            plain(&message(&body)).means("celery@host.1")
        };
        for (pattern, is_meant) in [
            ("celery@*", true),
            ("*host", false),
            ("celery?host.1", true),
            ("celery@host[.]1", true),
            ("celery@host[!.]1", false),
            ("[a-c]elery@host.[]1]", true),
            ("celery@host.[1", false),
            ("", true),
        ] {
            assert_eq!(means(pattern, "glob"), Ok(is_meant), "{pattern}");
        }
        assert_eq!(means("celery@h", "pcre"), Ok(true));
        assert_eq!(means("host", "pcre"), Ok(false), "from the beginning");
        assert!(means("(", "pcre").is_err());
        assert!(means("x", "other").is_err());
    }

    #[test]
    fn all_kinds_of_bad_requests_are_told() {
        let bare = json!({"method": "ping"});
        assert_eq!(plain(&message(&bare)).clock, 3);
        let plain = json!({"body": bare.to_string()}).to_string();
        assert_eq!(self::plain(plain.as_bytes()).method, "ping");
        for bad in [
            &b"\xff"[..],
            b"null",
            b"[]",
            b"{\"body\": 5}",
            br#"{"body": "?", "properties": {"body_encoding": "base64"}}"#,
            br#"{"body": "{}"}"#,
            br#"{"body": "{\"method\": 5}"}"#,
            br#"{"body": "{\"method\": \"ping\", \"arguments\": [1]}"}"#,
            br#"{"body": "{\"method\": \"ping\", \"destination\": 5}"}"#,
            br#"{"body": "{\"method\": \"ping\", \"reply_to\": {\"exchange\": \"e\"}}"}"#,
        ] {
            assert!(
                Request::read(bad, true).is_err(),
                "{}",
                String::from_utf8_lossy(bad)
            );
        }
    }
}
