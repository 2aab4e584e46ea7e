//! What can be asked of a supervisor.

use serde::{Deserialize, Serialize};

/// One request, on the wire `{"request":"scale","pool":"default","min":2,"max":8}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The whole picture; answered at once with [`super::Reply::Snapshot`].
    Status,
    /// Who serves what; answered at once with [`super::Reply::Serving`], from memory.
    Serving,
    /// What the loaded application says about its broker; answered at once with [`super::Reply::Facts`].
    Facts,
    /// The metrics as text; answered at once with [`super::Reply::Metrics`], without asking the broker.
    Metrics {
        /// In the format of OpenMetrics, not in that of Prometheus.
        #[serde(default)]
        openmetrics: bool,
    },
    /// Whether all is well; answered at once with [`super::Reply::Health`], from memory.
    Health,
    /// Changes the limits of a pool until the next reload; answered at once.
    Scale {
        /// Which pool; `None`: the only one there is.
        #[serde(default)]
        pool: Option<String>,
        /// New lower limit; `None`: as it is.
        #[serde(default)]
        min: Option<u32>,
        /// New upper limit; `None`: as it is.
        #[serde(default)]
        max: Option<u32>,
    },
    /// Claims nothing more; running jobs finish. Answered at once.
    Pause {
        /// Which pool; `None`: all.
        #[serde(default)]
        pool: Option<String>,
    },
    /// Ends a pause. Answered at once.
    Resume {
        /// Which pool; `None`: all.
        #[serde(default)]
        pool: Option<String>,
    },
    /// Reads the configuration again and loads the app anew; answered when the new generation is
    /// ready, or with an error when it is not and the old one stays.
    Reload,
    /// Claims nothing more, lets all running jobs finish however long they take, then leaves;
    /// answered just before it leaves.
    Drain,
    /// Leaves within `stop_timeout`: running jobs get that long, what is left goes back to its queue.
    /// Answered just before it leaves.
    Stop {
        /// Gives running jobs no time at all.
        #[serde(default)]
        now: bool,
    },
}

/// A request with the broker that the client means, on the wire a field `broker` of the request: the supervisor of
/// another one refuses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressed {
    /// What is asked.
    pub request: Request,
    /// The broker's address (`BrokerUrl::address`); `None`: whichever the supervisor serves.
    pub broker: Option<String>,
}

impl Addressed {
    /// As a line without its break.
    pub fn to_line(&self) -> serde_json::Result<Vec<u8>> {
        let mut request = serde_json::to_value(&self.request)?;
        if let (Some(broker), Some(fields)) = (&self.broker, request.as_object_mut()) {
            fields.insert(BROKER.to_owned(), broker.as_str().into());
        }
        serde_json::to_vec(&request)
    }

    /// Reads a line.
    pub fn from_line(line: &[u8]) -> serde_json::Result<Self> {
        let mut request: serde_json::Value = serde_json::from_slice(line)?;
        let broker = request.as_object_mut().and_then(|fields| fields.remove(BROKER));
        Ok(Addressed {
            request: serde_json::from_value(request)?,
            broker: broker.map(serde_json::from_value).transpose()?,
        })
    }
}

/// The field of [`Addressed::broker`].
const BROKER: &str = "broker";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_fields_mean_as_it_is() {
        let request: Request = serde_json::from_str(r#"{"request":"scale","max":8}"#).unwrap();
        let expected = Request::Scale {
            pool: None,
            min: None,
            max: Some(8),
        };
        assert_eq!(request, expected);
    }

    #[test]
    fn an_unknown_field_is_an_error() {
        let request = r#"{"request":"scale","maximum":8}"#;
        assert!(serde_json::from_str::<Request>(request).is_err());
    }

    #[test]
    fn a_request_may_name_its_broker() {
        let line = br#"{"request":"pause","broker":"sqlite:/a.db"}"#;
        let read = Addressed::from_line(line).unwrap();
        assert_eq!(read.request, Request::Pause { pool: None });
        assert_eq!(read.broker.as_deref(), Some("sqlite:/a.db"));
        assert_eq!(Addressed::from_line(&read.to_line().unwrap()).unwrap(), read);
        assert_eq!(
            Addressed::from_line(br#"{"request":"status"}"#).unwrap().broker,
            None
        );
        for wrong in [
            &br#"{"request":"status","broker":1}"#[..],
            br#"{"broker":"x"}"#,
            b"[1]",
        ] {
            assert!(Addressed::from_line(wrong).is_err());
        }
    }

    #[test]
    fn every_request_reads_back_as_written() {
        for request in [
            Request::Status,
            Request::Metrics { openmetrics: true },
            Request::Health,
            Request::Pause { pool: None },
            Request::Resume {
                pool: Some("mail".into()),
            },
            Request::Reload,
            Request::Drain,
            Request::Stop { now: true },
        ] {
            let line = serde_json::to_string(&request).unwrap();
            assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
        }
    }
}
