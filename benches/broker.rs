//! What the embedded broker costs a job: `cargo bench --bench broker [-- JOBS [BATCH]]`.
//!
//! Prints, for each part, jobs a second and microseconds a job: of the clock, and of the
//! processor (all threads of this process). The last part is a supervisor's life: what was claimed
//! is settled while more is claimed, so that both share commits. `crowd` is four producers that enqueue
//! one job a call while a supervisor claims and settles, each with a connection of its own, as
//! processes have; it prints how long a call took, too.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use pool::broker::parts::turns::Turns;
use pool::broker::{BrokerError, Pull};
use pool::config::{BrokerConfig, BrokerUrl};
use pool::job::{Claimed, NewJob, QueueName, Settlement, Verdict};
use pool::time::Mono;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers: Vec<usize> = std::env::args().filter_map(|text| text.parse().ok()).collect();
    let jobs = numbers.first().copied().unwrap_or(100_000);
    let batch = numbers.get(1).copied().unwrap_or(500);
    println!("{jobs} jobs, {batch} at a time; enqueued 5000 at a time");
    println!("{:<28}{:>12}{:>12}{:>12}", "", "jobs/s", "us/job", "cpu us/job");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for fsync in [false, true] {
        let directory = tempfile::tempdir()?;
        let config = BrokerConfig {
            url: BrokerUrl::Sqlite(directory.path().join("pool.db")),
            lease: Duration::from_secs(60),
            heartbeat: Duration::from_secs(20),
            result_ttl: Duration::from_secs(3600),
            dead_ttl: None,
            max_payload: 1 << 20,
            max_result: 1 << 20,
            fsync,
            ..BrokerConfig::default()
        };
        runtime.block_on(bench(&config, jobs, batch))?;
    }
    Ok(())
}

async fn bench(config: &BrokerConfig, jobs: usize, batch: usize) -> Result<(), Box<dyn std::error::Error>> {
    let broker = pool::broker::open_pulled(&config.options()?).await?;
    let name = |part: &str| format!("{part}{}", if config.fsync { ", fsync" } else { "" });
    let queues = [QueueName::new("default")?];

    let clock = Clock::start();
    enqueue(&broker, &queues[0], jobs).await?;
    clock.report(&name("enqueue"), jobs);

    let clock = Clock::start();
    let mut held = Vec::with_capacity(jobs);
    while held.len() < jobs {
        held.extend(broker.claim(&queues, Turns::Strict, batch).await?);
    }
    clock.report(&name("claim"), jobs);

    let clock = Clock::start();
    for claimed in held.chunks(batch) {
        settle(&broker, claimed).await?;
    }
    clock.report(&name("settle"), jobs);

    enqueue(&broker, &queues[0], jobs).await?;
    let clock = Clock::start();
    let mut held = broker.claim(&queues, Turns::Strict, batch).await?;
    while !held.is_empty() {
        let (settled, claimed) = tokio::join!(
            settle(&broker, &held),
            broker.claim(&queues, Turns::Strict, batch)
        );
        settled?;
        held = claimed?;
    }
    clock.report(&name("claim + settle together"), jobs);
    broker.close().await?;

    let crowd = jobs / 50;
    let clock = Clock::start();
    let mut calls = crowded(config, &queues, crowd).await?;
    clock.report(&name("crowd"), crowd);
    calls.sort_unstable();
    let at = |share: f64| calls[((calls.len() - 1) as f64 * share) as usize];
    println!(
        "    a call: median {:?}, 99 % within {:?}, longest {:?}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}

/// Four producers of one job a call beside one supervisor. Returns how long each call took.
async fn crowded(
    config: &BrokerConfig,
    queues: &[QueueName],
    jobs: usize,
) -> Result<Vec<Duration>, BrokerError> {
    let mut producers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let producer = pool::broker::open_pulled(&config.options()?).await?;
        let queue = queues[0].clone();
        producers.spawn(async move {
            let mut calls = Vec::new();
            for _ in 0..jobs / 4 {
                let begun = Mono::now();
                enqueue(&producer, &queue, 1).await?;
                calls.push(Mono::now().since(begun));
            }
            Ok::<_, BrokerError>(calls)
        });
    }
    let supervisor = pool::broker::open_pulled(&config.options()?).await?;
    let mut left = jobs / 4 * 4;
    while left > 0 {
        supervisor.ready(queues).await?;
        let claimed = supervisor.claim(queues, Turns::Strict, 100).await?;
        settle(&supervisor, &claimed).await?;
        left -= claimed.len();
    }
    let calls = producers
        .join_all()
        .await
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    Ok(calls.concat())
}

async fn enqueue(broker: &Arc<dyn Pull>, queue: &QueueName, count: usize) -> Result<(), BrokerError> {
    let mut left = count;
    while left > 0 {
        let some = left.min(5000);
        let jobs = (0..some).map(|_| NewJob::new(queue.clone(), "noop", "null"));
        broker.producer()?.enqueue(jobs.collect()).await?;
        left -= some;
    }
    Ok(())
}

async fn settle(broker: &Arc<dyn Pull>, claimed: &[Claimed]) -> Result<(), BrokerError> {
    let settlements = claimed.iter().map(|claimed| Settlement {
        of: claimed.claim.clone(),
        verdict: Verdict::Finish {
            result: b"null".to_vec(),
        },
        run: None,
    });
    let done = broker.settle(settlements.collect()).await?;
    assert!(done.iter().all(|done| *done), "all claims are held");
    Ok(())
}

/// Time of the clock and of the processor since a start.
struct Clock {
    at: Mono,
    cpu: Duration,
}

impl Clock {
    fn start() -> Self {
        Clock {
            at: Mono::now(),
            cpu: cpu(),
        }
    }

    fn report(&self, part: &str, jobs: usize) {
        let (wall, cpu) = (Mono::now().since(self.at), cpu() - self.cpu);
        let each = |time: Duration| time.as_secs_f64() * 1e6 / jobs as f64;
        let rate = jobs as f64 / wall.as_secs_f64();
        println!("{part:<28}{rate:>12.0}{:>12.2}{:>12.2}", each(wall), each(cpu));
    }
}

fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask for its own usage");
    let times = [usage.user_time(), usage.system_time()];
    times
        .iter()
        .map(|time| Duration::from_secs(time.tv_sec() as u64) + Duration::from_micros(time.tv_usec() as u64))
        .sum()
}
