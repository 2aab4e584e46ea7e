//! How far a running job says that it is.

use serde::{Deserialize, Serialize};

use crate::text::head;

/// What a job says of itself while it runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// How much of it is done, from 0 to 1; `None`: it does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction: Option<f64>,
    /// What it does right now; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Progress {
    /// Longest message that is kept, in bytes.
    const MESSAGE_LEN_MAX: usize = 200;

    /// As a worker tells it, with no more of the message than is kept.
    pub fn bounded_json(&self) -> Vec<u8> {
        let bounded = Progress {
            fraction: self.fraction,
            message: head(&self.message, Self::MESSAGE_LEN_MAX).to_owned(),
        };
        serde_json::to_vec(&bounded).expect("a number and a text are always JSON")
    }

    /// Reads the JSON of a worker. Its error is in words.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        let mut told: Progress = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if let Some(fraction) = told.fraction.filter(|fraction| !(0.0..=1.0).contains(fraction)) {
            return Err(format!("the fraction {fraction} is not from 0 to 1"));
        }
        let kept = head(&told.message, Self::MESSAGE_LEN_MAX).len();
        told.message.truncate(kept);
        Ok(told)
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let space = if self.message.is_empty() { "" } else { " " };
        match self.fraction {
            Some(fraction) => write!(f, "{:.0} %{space}{}", fraction * 100.0, self.message),
            None => f.write_str(&self.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_says_is_read_and_bounded() {
        let told = Progress::read(br#"{"fraction":0.4,"message":"rows"}"#).unwrap();
        assert_eq!(told.to_string(), "40 % rows");
        assert_eq!(
            Progress::read(br#"{"message":"rows"}"#).unwrap().to_string(),
            "rows"
        );
        assert!(
            Progress::read(br#"{"fraction":1.5}"#)
                .unwrap_err()
                .contains("1.5")
        );
        assert!(Progress::read(b"nonsense").is_err());
        let long = format!(r#"{{"message":"{}"}}"#, "ä".repeat(300));
        let told = Progress::read(long.as_bytes()).unwrap();
        assert_eq!(told.message.len(), Progress::MESSAGE_LEN_MAX);
    }
}
