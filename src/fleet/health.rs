//! Whether a supervisor lives, has started and is ready, as probes ask it.

use serde::{Deserialize, Serialize};

use super::snapshot::Snapshot;

/// What a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The loop turns: who gets an answer knows it.
    Live,
    /// Jobs run, or would if there were any.
    Ready,
    /// The application was loaded once.
    Started,
}

/// What keeps a supervisor from being well, in sentences.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Why it has not started yet; empty: it has.
    pub not_started: Vec<String>,
    /// Why it is not ready; empty: it is.
    pub not_ready: Vec<String>,
}

impl Health {
    /// Of this picture. It asks nobody: the broker's state is that of the last call.
    pub fn of(picture: &Snapshot) -> Self {
        let not_started: Vec<String> = match (picture.generation, &picture.load_error) {
            (0, Some(error)) => vec![format!("the application does not load: {error}")],
            (0, None) => vec!["the application is not loaded yet".to_owned()],
            _ => Vec::new(),
        };
        let mut not_ready = not_started.clone();
        if matches!(picture.state.as_str(), "draining" | "stopping") {
            not_ready.push(format!("it is {}", picture.state));
        }
        if let Some(error) = &picture.broker_error {
            not_ready.push(format!("the broker can't be used: {error}"));
        }
        for (name, pool) in picture.pools.iter().filter(|(_, pool)| pool.standstill) {
            let waiting = match pool.waiting {
                1 => "1 job waits".to_owned(),
                waiting => format!("{waiting} jobs wait"),
            };
            not_ready.push(format!("pool `{name}` runs nothing, and {waiting}"));
        }
        Health {
            not_started,
            not_ready,
        }
    }

    /// What is wrong, as far as this probe is concerned.
    pub fn problems(&self, probe: Probe) -> &[String] {
        match probe {
            Probe::Live => &[],
            Probe::Ready => &self.not_ready,
            Probe::Started => &self.not_started,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::PoolSnapshot;
    use super::*;

    fn running() -> Snapshot {
        Snapshot {
            state: "running".to_owned(),
            generation: 1,
            pools: [("mail".to_owned(), PoolSnapshot::default())].into(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn what_runs_is_well() {
        assert_eq!(Health::of(&running()), Health::default());
        // Whoever pauses a pool knows that it takes no jobs.
        let paused = Snapshot {
            state: "paused".to_owned(),
            ..running()
        };
        assert_eq!(Health::of(&paused), Health::default());
    }

    #[test]
    fn each_trouble_is_a_sentence() {
        let mut picture = Snapshot {
            state: "draining".to_owned(),
            broker_error: Some("connection refused".to_owned()),
            ..running()
        };
        picture.pools.get_mut("mail").unwrap().standstill = true;
        picture.pools.get_mut("mail").unwrap().waiting = 7;
        let health = Health::of(&picture);
        let expected = [
            "it is draining",
            "the broker can't be used: connection refused",
            "pool `mail` runs nothing, and 7 jobs wait",
        ];
        assert_eq!(health.problems(Probe::Ready), expected);
        assert!(health.problems(Probe::Live).is_empty() && health.problems(Probe::Started).is_empty());
    }

    #[test]
    fn a_first_load_that_fails_has_not_started() {
        let picture = Snapshot {
            state: "starting".to_owned(),
            generation: 0,
            load_error: Some("no module `shop`".to_owned()),
            ..running()
        };
        let expected = ["the application does not load: no module `shop`"];
        assert_eq!(Health::of(&picture).problems(Probe::Started), expected);
        assert_eq!(Health::of(&picture).problems(Probe::Ready), expected);
    }
}
