//! The pages, and what each answers.

use serde::Serialize;

use crate::control::{Reply, Request};
use crate::fleet::health::{Health, Probe};
use crate::fleet::snapshot::{PoolSnapshot, Snapshot};
use crate::metrics::Format;

/// What is said of any other path.
pub const NOT_HERE: &str = "not here: there are /metrics, /livez, /readyz, /startupz and /api/v1/scale\n";

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// `/metrics`
    Metrics(Format),
    /// `/livez`, `/readyz`, `/startupz`: the probes of Kubernetes, named as its own components name them.
    Health(Probe),
    /// `/api/v1/scale`: flat JSON. With `?pool=NAME` of one pool, else of all together.
    Scale {
        /// Of this one alone.
        pool: Option<String>,
    },
}

/// What a client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// As HTTP numbers it.
    pub status: u16,
    /// The type of the text.
    pub content_type: &'static str,
    /// The body.
    pub text: String,
}

impl Answer {
    /// A sentence for people.
    pub fn plain(status: u16, text: impl Into<String>) -> Self {
        Answer {
            status,
            content_type: "text/plain; charset=utf-8",
            text: text.into(),
        }
    }

    fn ok(content_type: &'static str, text: String) -> Self {
        Answer {
            status: 200,
            content_type,
            text,
        }
    }
}

impl Page {
    /// The page at this path; `format` is what metrics are read in.
    pub fn at(path: &str, query: &str, format: Format) -> Option<Self> {
        match path {
            "/metrics" => Some(Page::Metrics(format)),
            "/livez" => Some(Page::Health(Probe::Live)),
            "/readyz" => Some(Page::Health(Probe::Ready)),
            "/startupz" => Some(Page::Health(Probe::Started)),
            "/api/v1/scale" => Some(Page::Scale {
                // A pool's name has no character that a URL would escape.
                pool: query
                    .split('&')
                    .find_map(|pair| pair.strip_prefix("pool="))
                    .map(str::to_owned),
            }),
            _ => None,
        }
    }

    /// Only who shows the token may read it, where there is one. Probes show none: who runs them can rarely give them
    /// a secret, and they say nothing of jobs.
    pub fn is_secret(&self) -> bool {
        !matches!(self, Page::Health(_))
    }

    /// What the supervisor is asked for it.
    pub fn request(&self) -> Request {
        match self {
            Page::Metrics(format) => Request::Metrics {
                openmetrics: *format == Format::OpenMetrics,
            },
            Page::Health(_) => Request::Health,
            Page::Scale { .. } => Request::Status,
        }
    }

    /// What a client gets, if that is what the supervisor says.
    pub fn answer(&self, reply: Reply) -> Answer {
        match (self, reply) {
            (Page::Metrics(format), Reply::Metrics { text }) => Answer::ok(format.content_type(), text),
            (Page::Health(probe), Reply::Health { health }) => probed(&health, *probe),
            (Page::Scale { pool }, Reply::Snapshot { snapshot }) => scale(&snapshot, pool.as_deref()),
            _ => Answer::plain(503, "the supervisor answered something else than was asked\n"),
        }
    }
}

fn probed(health: &Health, probe: Probe) -> Answer {
    let problems = health.problems(probe);
    match problems {
        [] => Answer::plain(200, "ok\n"),
        problems => Answer::plain(503, problems.join("\n") + "\n"),
    }
}

/// One level deep, so that KEDA's `metrics-api` scaler names a field by its name.
#[derive(Debug, Serialize)]
struct Scale {
    workers: u64,
    busy: u64,
    /// Workers wanted.
    target: u64,
    min: u64,
    max: u64,
    /// Share of the window for which the workers were busy, 0 to 1; of several pools weighed by their workers.
    utilization: f64,
    /// Jobs that could run now.
    waiting: u64,
    /// Jobs that were claimed and do not run yet.
    prefetched: u64,
    /// Jobs due later.
    scheduled: u64,
    /// Jobs that run, were claimed or wait: what all supervisors of these queues have to do.
    jobs: u64,
    /// Age of the oldest that waits, in seconds.
    oldest_waiting_s: f64,
}

fn scale(snapshot: &Snapshot, pool: Option<&str>) -> Answer {
    let chosen = |name: &String| pool.is_none_or(|pool| pool == name);
    let pools: Vec<&PoolSnapshot> = snapshot
        .pools
        .iter()
        .filter_map(|(name, of)| chosen(name).then_some(of))
        .collect();
    if let (Some(name), []) = (pool, pools.as_slice()) {
        return Answer::plain(404, format!("there is no pool {name:?}\n"));
    }
    match serde_json::to_string(&Scale::of(&pools)) {
        Ok(text) => Answer::ok("application/json", text + "\n"),
        Err(error) => Answer::plain(500, format!("{error}\n")),
    }
}

impl Scale {
    fn of(pools: &[&PoolSnapshot]) -> Self {
        let sum = |of: fn(&PoolSnapshot) -> u64| pools.iter().map(|pool| of(pool)).sum::<u64>();
        let workers = sum(|pool| pool.workers.into());
        let busy_share = |pool: &&PoolSnapshot| pool.utilization.unwrap_or(0.0) * f64::from(pool.workers);
        let (busy, prefetched, waiting) = (
            sum(|pool| pool.busy.into()),
            sum(|pool| pool.prefetched),
            sum(|pool| pool.waiting),
        );
        Scale {
            workers,
            busy,
            target: sum(|pool| pool.target.into()),
            min: sum(|pool| pool.min.into()),
            max: sum(|pool| pool.max.into()),
            utilization: pools.iter().map(busy_share).sum::<f64>() / workers.max(1) as f64,
            waiting,
            prefetched,
            scheduled: sum(|pool| pool.scheduled),
            jobs: busy + prefetched + waiting,
            oldest_waiting_s: pools.iter().map(|pool| pool.oldest_waiting_s).fold(0.0, f64::max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let pool = |workers, busy, utilization, waiting| PoolSnapshot {
            workers,
            busy,
            utilization,
            waiting,
            max: 8,
            prefetched: 1,
            oldest_waiting_s: f64::from(workers),
            ..PoolSnapshot::default()
        };
        let pools = [
            ("mail".to_owned(), pool(3, 3, Some(0.9), 5)),
            ("web".to_owned(), pool(1, 0, None, 0)),
        ];
        Snapshot {
            pools: pools.into(),
            ..Snapshot::default()
        }
    }

    fn read(page: &Page) -> serde_json::Value {
        let reply = Reply::from(snapshot());
        let answer = page.answer(reply);
        assert_eq!((answer.status, answer.content_type), (200, "application/json"));
        serde_json::from_str(&answer.text).unwrap()
    }

    fn page(path: &str, query: &str) -> Page {
        Page::at(path, query, Format::Prometheus).unwrap()
    }

    #[test]
    fn figures_of_all_pools_are_summed() {
        let all = read(&page("/api/v1/scale", ""));
        let expected = serde_json::json!({
            "workers": 4, "busy": 3, "target": 0, "min": 0, "max": 16, "utilization": 0.675, "waiting": 5,
            "prefetched": 2, "scheduled": 0, "jobs": 10, "oldest_waiting_s": 3.0,
        });
        let close = (all["utilization"].as_f64().unwrap() - 0.675).abs() < 1e-9;
        let mut all = all;
        all["utilization"] = 0.675.into();
        assert!(close && all == expected, "{all}");
    }

    #[test]
    fn one_pool_can_be_asked_for() {
        assert_eq!(read(&page("/api/v1/scale", "a=b&pool=web"))["workers"], 1);
        let none = page("/api/v1/scale", "pool=nosuch").answer(Reply::from(snapshot()));
        assert_eq!(none, Answer::plain(404, "there is no pool \"nosuch\"\n"));
    }

    #[test]
    fn a_probe_answers_by_its_status_and_says_why() {
        let health = Health {
            not_started: vec!["the application is not loaded yet".to_owned()],
            not_ready: vec![
                "the application is not loaded yet".to_owned(),
                "it is stopping".to_owned(),
            ],
        };
        let answer = |path| {
            page(path, "").answer(Reply::Health {
                health: health.clone(),
            })
        };
        assert_eq!(answer("/livez"), Answer::plain(200, "ok\n"));
        assert_eq!(
            answer("/startupz"),
            Answer::plain(503, "the application is not loaded yet\n")
        );
        assert_eq!(
            answer("/readyz"),
            Answer::plain(503, "the application is not loaded yet\nit is stopping\n")
        );
    }
}
