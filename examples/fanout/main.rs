//! Ten subtasks of two seconds at the same time: enqueue them, wait for all, and count what was asked of the broker meanwhile.
//!
//! ```sh
//! cargo run --example fanout
//! ```
//!
//! It starts a supervisor of its own on a broker in a temporary directory, and fails unless all results are right,
//! the broker was asked 12 times at the most, and not once while nothing had ended. `examples/fanout/run` repeats it
//! in a release build, and measures others beside it.

#[path = "../../tests/contract/broker/counting.rs"]
mod counting;

use std::error::Error;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use pool::broker::{self, Broker, wait_all};
use pool::config::{BrokerConfig, BrokerUrl};
use pool::job::{JobId, NewJob, QueueName};
use pool::time::{Mono, Unix};
use pool::{App, Context, TaskResult};

use counting::Counting;

const SUBTASKS: u64 = 10;
const SUBTASK_TIME: Duration = Duration::from_secs(2);
/// Waiting for ten jobs may take so many questions.
const ASKED_MAX: u64 = 12;

fn square(n: u64, _: &Context) -> TaskResult<u64> {
    std::thread::sleep(SUBTASK_TIME);
    Ok(n * n)
}

fn main() -> ExitCode {
    let asked_for = std::env::args_os().nth(1);
    let as_json = asked_for.as_ref().is_some_and(|verb| verb == "measure");
    if asked_for.is_some() && !as_json {
        return App::new().task("square", square).main(); // the supervisor started below, its template and workers
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(fan_out(as_json)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn fan_out(as_json: bool) -> Result<(), Box<dyn Error>> {
    let place = tempfile::tempdir()?;
    let file = place.path().join("pool.db");
    let settings = BrokerConfig {
        url: BrokerUrl::Sqlite(file.clone()),
        ..BrokerConfig::default()
    };
    let client = Arc::new(Counting::new(broker::open(&settings.options()?).await?));

    let queue = QueueName::new("default")?;
    let jobs: Vec<NewJob> = (0..SUBTASKS)
        .map(|n| NewJob::new(queue.clone(), "square", n.to_string()))
        .collect();
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id.clone()).collect();
    client.producer()?.enqueue(jobs).await?;
    let asked_before = client.asked();

    let mut supervisor = Command::new(std::env::current_exe()?)
        .args([
            "run",
            "--burst",
            "--min-workers",
            "10",
            "--max-workers",
            "10",
            "--broker",
        ])
        .arg(format!("sqlite:{}", file.display()))
        .spawn()?;
    let begun = Mono::now();
    let waiting = {
        let (client, ids) = (Arc::clone(&client), ids.clone());
        tokio::spawn(async move { wait_all(client.reader()?, &ids, Some(Duration::from_secs(60))).await })
    };
    tokio::time::sleep(SUBTASK_TIME / 2).await; // none can have ended yet
    let asked_to_sleep = client.asked() - asked_before;
    let views = waiting.await??;
    let (woken, took) = (Unix::now(), Mono::now().since(begun));
    let asked = client.asked() - asked_before;
    supervisor.wait()?;

    let results: Option<Vec<u64>> = views
        .iter()
        .map(|view| serde_json::from_slice(view.as_ref()?.result.as_deref()?).ok())
        .collect();
    assert_eq!(results, Some((0..SUBTASKS).map(|n| n * n).collect()));
    assert_eq!(asked_to_sleep, 1, "one question, then silence until jobs end");
    assert!(
        asked <= ASKED_MAX,
        "{asked} questions to wait for {SUBTASKS} jobs"
    );
    let last = views.iter().flatten().filter_map(|view| view.ended).max();
    let late = last.map(|last| woken.since(last)).unwrap_or_default();
    if as_json {
        let figures = serde_json::json!({
            "asked_to_sleep": asked_to_sleep,
            "asked": asked,
            "late_ms": late.as_millis(),
            "took_s": took.as_secs_f64(),
        });
        println!("{figures}");
        return Ok(());
    }
    println!("{SUBTASKS} subtasks of {SUBTASK_TIME:?} took {took:.2?}; results {results:?}");
    println!(
        "the broker was asked {asked} times while waiting, and the wait was over {late:?} after the last end"
    );
    Ok(())
}
