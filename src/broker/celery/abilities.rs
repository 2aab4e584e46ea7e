//! What Celery has otherwise or not at all, and what its users do instead.

use crate::broker::{Broker, BrokerError, NotHere};

/// Where results are not on Redis.
pub(super) fn no_results(broker: &dyn Broker) -> NotHere {
    let instead = "the application's result backend is not Redis; ask it by `AsyncResult(ID)`";
    broker.lacks("record of jobs", instead)
}

/// What a user of Celery does instead.
pub(super) fn no_dead_letters(broker: &dyn Broker) -> NotHere {
    let instead = "Celery keeps none; the error of a task that failed is its result, `pool result ID`";
    broker.lacks("dead letters", instead)
}

/// What a user of Celery does instead.
pub(super) fn no_groups(broker: &dyn Broker) -> NotHere {
    broker.lacks("groups", "use Celery's own: `group(…).apply_async()`")
}

/// What a user of Celery does instead.
pub(super) fn no_chains(broker: &dyn Broker) -> NotHere {
    broker.lacks("chains", "use Celery's own: `chain(…).apply_async()`")
}

/// What a user of Celery does instead.
pub(super) fn no_schedules(broker: &dyn Broker) -> NotHere {
    let instead = "use Celery's own: `beat_schedule`, and `celery -A APP beat` beside the pool";
    broker.lacks("schedules", instead)
}

/// What is due later is in the hands of the workers.
pub(super) fn purges_no_etas() -> BrokerError {
    let why = "tasks with an ETA are in the hands of workers; `pool cancel ID` revokes one";
    BrokerError::Refused(why.to_owned())
}
