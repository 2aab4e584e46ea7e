//! Which columns of a recording say what.

use std::str::FromStr;
use std::time::Duration;

use crate::time::parse_duration;

/// Which column says what.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    /// When a job comes: seconds, or a date with a time.
    pub arrival: String,
    /// How long it runs: seconds, a duration, or a number of `service_unit`; `None`: the file does not say.
    pub service: Option<String>,
    /// What a bare number of the service column counts.
    pub service_unit: Duration,
    /// How many jobs a row stands for, evenly until the next row; `None`: one.
    pub count: Option<String>,
    /// The task; `None`: all are of one.
    pub task: Option<String>,
    /// The queue; `None`: the first one of the pool.
    pub queue: Option<String>,
}

impl Default for Columns {
    fn default() -> Self {
        Columns {
            arrival: "arrival".into(),
            service: None,
            service_unit: Duration::from_secs(1),
            count: None,
            task: None,
            queue: None,
        }
    }
}

/// Why a text names no columns.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected `ROLE=COLUMN`, separated by commas, with the roles arrival, service, count, task and queue, each at most once; \
     `service=tokens*20ms` multiplies"
)]
pub struct ColumnsError;

/// `arrival=TIMESTAMP,service=GeneratedTokens*20ms`
impl FromStr for Columns {
    type Err = ColumnsError;

    fn from_str(text: &str) -> Result<Self, ColumnsError> {
        let mut columns = Columns::default();
        let mut named = Vec::new();
        for part in text.split(',') {
            let (role, name) = part.split_once('=').ok_or(ColumnsError)?;
            let (role, name) = (role.trim(), name.trim().to_owned());
            if name.is_empty() || named.contains(&role) {
                return Err(ColumnsError);
            }
            named.push(role);
            match role {
                "arrival" => columns.arrival = name,
                "service" => match name.rsplit_once('*') {
                    Some((name, unit)) => {
                        columns.service = Some(name.to_owned());
                        columns.service_unit = parse_duration(unit).map_err(|_| ColumnsError)?;
                    }
                    None => columns.service = Some(name),
                },
                "count" => columns.count = Some(name),
                "task" => columns.task = Some(name),
                "queue" => columns.queue = Some(name),
                _ => return Err(ColumnsError),
            }
        }
        Ok(columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_columns_or_one_role_twice_is_refused() {
        for text in [
            "",
            "when=a",
            "arrival",
            "service=x*y",
            "arrival=",
            "arrival=a,arrival=b",
        ] {
            assert_eq!(text.parse::<Columns>(), Err(ColumnsError), "{text}");
        }
    }
}
