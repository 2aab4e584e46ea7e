//! What Celery has otherwise or not at all, and what its users do instead.

use crate::broker::{Broker, BrokerError, Instead, NotHere};

/// What a user of Celery does instead.
pub(super) const INSTEAD: Instead = Instead {
    reader: "the application's result backend is not Redis; ask it by `AsyncResult(ID)`",
    dead_letters: "Celery keeps none; the error of a task that failed is its result, `pool result ID`",
    groups: "use Celery's own: `group(…).apply_async()`",
    chains: "use Celery's own: `chain(…).apply_async()`",
    schedules: "use Celery's own: `beat_schedule`, and `celery -A APP beat` beside the pool",
    ..Instead::DEFAULT
};

/// Where results are not on Redis.
pub(super) fn no_results(broker: &dyn Broker) -> NotHere {
    broker.lacks("record of jobs", INSTEAD.reader)
}

/// What is due later is in the hands of the workers.
pub(super) fn purges_no_etas() -> BrokerError {
    let why = "tasks with an ETA are in the hands of workers; `pool cancel ID` revokes one";
    BrokerError::Refused(why.to_owned())
}
