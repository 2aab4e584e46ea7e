//! Rules of what fails by itself: jobs that nobody can read, and after-work that can't be done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pool::broker::source::Event;
use pool::job::{Delivery, JobError, Outcome, Verdict, Work};
use pool::policy::retry::{Rules, verdict};
use pool::time::{Mono, Unix};

use super::fed::{Fed, add, ids_of};
use super::store::Store;
use crate::broker::kit::{finish, queue, soon};
use crate::support::log::Log;

/// What a supervisor does with failed jobs.
const RULES: Rules = Rules {
    retries: 0,
    backoff: Duration::ZERO,
    backoff_max: Duration::ZERO,
    max_worker_losses: 3,
};
/// Far more tries than any broker asks for.
const TRIES_MAX: usize = 20;

/// It fails with the reason, or is kept aside where a message has no failure. It takes no room, and stops nothing.
pub async fn the_unreadable_fails_with_a_reason(store: &dyn Store) {
    let producer = store.handle().await;
    let mut odd = store.add_unreadable("first").await;
    add(&producer, 0..1, "default").await;
    odd.extend(store.add_unreadable("between").await);
    add(&producer, 1..2, "default").await;
    odd.extend(store.add_unreadable("last").await);
    let mut fed = Fed::over(store.handle().await).await;
    for expected in ["00000", "00001"] {
        fed.want(&["default"], 1);
        let job = loop {
            match fed.next().await {
                Event::Delivered { jobs, .. } => break jobs,
                Event::Empty { seen, settled, .. } if (seen, settled) == (fed.seen, fed.settled) => {
                    panic!("{expected} waits")
                }
                _ => {}
            }
        };
        assert_eq!(ids_of(&job), [expected]);
        fed.settle(&job, &finish());
        assert_eq!(fed.all_settled().await, []);
    }
    fed.want(&["default"], 9);
    fed.empty().await;
    for job in &odd {
        let reason = store.reason(job).await;
        assert!(reason.is_some_and(|reason| !reason.is_empty()), "{job}");
    }
    let backlog = producer.queues().backlog(&[queue("default")]).await.unwrap();
    assert_eq!(backlog.waiting(), 0);
    // Of those that come to an idle pool, too, it is said at once.
    let odd = store.add_unreadable("later").await;
    for job in &odd {
        while store.reason(job).await.is_none() {
            soon(tokio::time::sleep(Duration::from_millis(10))).await;
        }
    }
}

/// Tried so often, with pauses; then the log says why it was given up, and its job has ended. Others go on meanwhile, and only
/// then nothing is left.
pub async fn after_work_fails_in_the_end(store: &dyn Store) {
    let log = Log::start();
    let producer = store.handle().await;
    let stopped = ["after-fails", "after-dies"];
    for id in stopped {
        store.add_with_after_work(id).await;
    }
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 2);
    let jobs = fed.jobs(2).await;
    fed.settle(&jobs, &Verdict::Stopped);
    let mut tries: BTreeMap<&str, Tries> = BTreeMap::new();
    let (mut added, mut finished) = (0, BTreeSet::new());
    loop {
        fed.want(&["default"], 9);
        let jobs = match soon(fed.events.recv()).await.unwrap() {
            Event::Delivered { jobs, .. } => jobs,
            Event::Empty { seen, settled, .. } if (seen, settled) == (fed.seen, fed.settled) => break,
            _ => continue,
        };
        fed.seen += jobs.len() as u64;
        for delivery in jobs {
            if delivery.job.work == Work::Job {
                finished.insert(delivery.job.id.clone());
                fed.settle(&[delivery], &finish());
                continue;
            }
            let id = stopped.into_iter().find(|id| is_about(&delivery, id)).unwrap();
            let came = Mono::now();
            // It runs before the next try. Added after the last failure, it could come after nothing was left.
            add(&producer, added..added + 1, "default").await;
            added += 1;
            let outcome = tries
                .entry(id)
                .or_default()
                .fail((&delivery, came), id == "after-dies");
            fed.settle(&[delivery], &outcome);
        }
    }
    assert_eq!(finished.len(), added as usize);
    for (id, tries) in &tries {
        tries.check();
        assert!(store.has_ended(id).await, "{id}");
    }
    assert_eq!(
        tries.into_keys().collect::<Vec<_>>(),
        ["after-dies", "after-fails"]
    );
    assert_eq!(log.count("ERROR", "it is given up"), 2, "{}", log.text());
}

/// Whether this is what is to be done after the job with this id.
fn is_about(after_work: &Delivery, id: &str) -> bool {
    String::from_utf8_lossy(&after_work.job.payload).contains(id)
}

/// Tries of one piece of after-work.
#[derive(Default)]
struct Tries {
    /// When each came, and when it had failed.
    times: Vec<(Mono, Mono)>,
    /// Tries that there may be.
    most: usize,
}

impl Tries {
    /// What a supervisor makes of one more that came then and failed, or whose worker died.
    fn fail(&mut self, (delivery, came): (&Delivery, Mono), dies: bool) -> Verdict {
        let outcome = match dies {
            true => Outcome::Lost {
                how: "killed by signal 9".to_owned(),
                death: Box::default(),
            },
            false => Outcome::Failure {
                error: JobError::new("ConnectionError", "nobody is there"),
                retryable: true,
            },
        };
        let retries = delivery.job.retries.expect("it says so itself");
        self.most = match dies {
            true => RULES.max_worker_losses,
            false => retries + 1,
        } as usize;
        self.times.push((came, Mono::now()));
        assert!(
            self.times.len() <= self.most.min(TRIES_MAX),
            "it is tried for ever"
        );
        verdict(&delivery.job, outcome, &RULES, Unix::now(), 1.0)
    }

    /// All tries were made. Each pause is longer than the one before, up to some seconds.
    fn check(&self) {
        assert_eq!(self.times.len(), self.most);
        assert!(self.most > 1);
        let pauses: Vec<Duration> = self
            .times
            .windows(2)
            .map(|pair| pair[1].0.since(pair[0].1))
            .collect();
        for (pause, at_least) in pauses.iter().zip([200, 800, 3200, 4000, 4000]) {
            assert!(*pause >= Duration::from_millis(at_least), "{pauses:?}");
        }
    }
}
