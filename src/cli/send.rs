//! How jobs go to the broker: in chunks, with a word on each that was there already.

use crate::broker::{Enqueued, Producer};
use crate::job::{JobId, NewJob};

use super::progress::Progress;
use super::report::{Outcome, note};

/// Jobs that go to the broker at once.
pub const CHUNK_JOBS_MAX: usize = 5_000;

/// Bytes of arguments that go to the broker at once, unless a single job has more.
pub const CHUNK_BYTES_MAX: usize = 8 << 20;

/// Adds jobs, all or none, and calls `added` with their ids.
pub async fn send(
    producer: &dyn Producer,
    jobs: Vec<NewJob>,
    progress: &Progress,
    added: &mut impl FnMut(&[JobId]) -> Outcome,
) -> Outcome {
    let count = jobs.len() as u64;
    let answers = producer.enqueue(jobs).await?;
    let ids: Vec<JobId> = answers.iter().map(|answer| answer.id().clone()).collect();
    progress.aside(|| {
        answers.iter().for_each(tell_duplicate);
        added(&ids)
    })?;
    progress.advance(count);
    Ok(())
}

fn tell_duplicate(answer: &Enqueued) {
    if let Enqueued::Duplicate(id) = answer {
        note(&format!(
            "note: nothing was enqueued: job {id} has the same key and has not ended"
        ));
    }
}
