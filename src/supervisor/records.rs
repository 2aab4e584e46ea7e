//! Records that an application logs, with their level and logger: a line that begins with [`MARK`], and a JSON object.
//! See "What it starts with" in docs/protocol.md.

use serde::Deserialize;

/// The record separator of JSON text sequences (RFC 7464).
const MARK: char = '\x1e';

/// What an application logged.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Record {
    level: Level,
    #[serde(default)]
    logger: String,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

impl Record {
    /// Reads a line. `None`: it is a line as any other.
    pub fn read(line: &str) -> Option<Self> {
        serde_json::from_str(line.strip_prefix(MARK)?).ok()
    }

    /// Writes it to the log, under the target `app`. What stands below its first line is its detail.
    pub fn tell(&self, template: Option<u64>, pool: Option<&str>, worker: Option<u64>, job: Option<&str>) {
        let (message, detail) = match self.message.split_once('\n') {
            Some((first, rest)) => (first, Some(rest)),
            None => (self.message.as_str(), None),
        };
        let logger = self.logger.as_str();
        macro_rules! tell {
            ($level:ident) => {
                tracing::$level!(target: "app", template, pool, worker, job, logger, detail, "{message}")
            };
        }
        match self.level {
            Level::Error => tell!(error),
            Level::Warn => tell!(warn),
            Level::Info => tell!(info),
            Level::Debug => tell!(debug),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_line_is_a_record() {
        let line = "\x1e{\"level\": \"warn\", \"logger\": \"shop.mail\", \"message\": \"no\\nmail\"}";
        let expected = Record {
            level: Level::Warn,
            logger: "shop.mail".to_owned(),
            message: "no\nmail".to_owned(),
        };
        assert_eq!(Record::read(line), Some(expected));
    }

    #[test]
    fn any_other_line_is_what_it_is() {
        for line in [
            "plain",
            "",
            "\x1e",
            "\x1e{",
            "\x1e{\"level\": \"loud\", \"message\": \"x\"}",
            "{\"level\": \"warn\", \"message\": \"x\"}",
        ] {
            assert_eq!(Record::read(line), None, "{line:?}");
        }
    }
}
