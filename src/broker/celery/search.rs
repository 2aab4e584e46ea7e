//! Looking through results, whatever the transport: a walk over the keys of the server that has them, in no order.

use serde::{Deserialize, Serialize};

use super::results::ResultStore;
use crate::broker::BrokerError;
use crate::broker::search::{Budget, IdsFound, Look, Unseen};
use crate::job::JobState;
use crate::time::Mono;

/// Keys that one step of a walk looks at.
const STEP: usize = 500;

/// Where a walk stopped.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Position {
    /// Redis's word for the step.
    step: u64,
    /// The id that was looked at last in it, in the order of ids.
    last: String,
}

/// Places of results, where those are not on a server of Redis.
pub(super) fn unseen_results(results: Option<&ResultStore>) -> Vec<Unseen> {
    let why = "the application's result backend is not Redis";
    let unseen = |place| Unseen { place, why };
    match results {
        Some(_) => Vec::new(),
        None => [JobState::Dead, JobState::Finished].map(unseen).to_vec(),
    }
}

/// Looks at the tasks that ended: `place` is finished or dead.
pub(super) async fn look_at_results(
    results: &ResultStore,
    place: JobState,
    look: &mut Look<'_>,
) -> Result<(), BrokerError> {
    let mut at = match look.start() {
        Some(cursor) => serde_json::from_str(&cursor.at).map_err(|_| cursor.unknown())?,
        None => Position::default(),
    };
    loop {
        let (next, mut ids) = results.walk("", at.step, STEP).await?;
        ids.retain(|id| id.as_str() > at.last.as_str());
        let views = results.find(&ids).await?;
        for (id, view) in ids.into_iter().zip(views) {
            if look.is_over() {
                look.stop(serde_json::to_string(&at).expect("a plain record"), None);
                return Ok(());
            }
            look.count_row();
            look.offer((view.state == place).then_some(view));
            at.last = id.to_string();
        }
        if next == 0 {
            return Ok(());
        }
        at = Position {
            step: next,
            last: String::new(),
        };
        // Of the keys that were looked at, none may have been a result.
        if look.is_over() {
            look.stop(serde_json::to_string(&at).expect("a plain record"), None);
            return Ok(());
        }
    }
}

/// Ids of results that begin like this.
pub(super) async fn results_that_begin(
    results: &ResultStore,
    start: &str,
    budget: Budget,
) -> Result<IdsFound, BrokerError> {
    /// Keys that one step looks at, where none of them is read.
    const WIDE_STEP: usize = 20_000;
    let until = Mono::now() + budget.time;
    let mut found = IdsFound::default();
    let mut step = 0;
    loop {
        let (next, ids) = results.walk(start, step, WIDE_STEP).await?;
        if found.add_step(ids, next == 0, budget.jobs) || Mono::now() >= until {
            return Ok(found);
        }
        step = next;
    }
}
