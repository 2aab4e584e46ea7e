//! A worker's life as a table: state × event → state, every pair decided.

/// Where a worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Asked for; not ready yet.
    Starting,
    /// Ready, holds nothing.
    Idle,
    /// Holds at least one job; the first of them runs.
    Busy,
    /// Told to leave.
    Retiring,
    /// Sent SIGKILL.
    Dying,
    /// Reaped.
    Gone,
}

/// What happens to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It says that it takes jobs.
    Ready,
    /// A job was sent to it.
    Assigned,
    /// It says that its job ended, and holds others.
    Finished,
    /// It says that its job ended, and holds none.
    FinishedLast,
    /// Unread jobs were taken back, and it holds others.
    TakenBack,
    /// Unread jobs were taken back, and it holds none.
    TakenBackLast,
    /// We tell it to leave.
    Retire,
    /// We kill it.
    Kill,
    /// It is dead and its socket is empty.
    Exited,
}

/// Why a step can't be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The worker spoke out of turn: it is to be killed; a job that it holds settles when it exits.
    Theirs,
    /// The supervisor did: a defect of ours, reported loudly.
    Ours,
}

/// The whole life of a worker.
pub fn step(state: State, step: Step) -> Result<State, Fault> {
    use State::{Busy, Dying, Gone, Idle, Retiring, Starting};
    use Step::{Assigned, Exited, Finished, FinishedLast, Kill, Ready, Retire, TakenBack, TakenBackLast};
    match (state, step) {
        (Starting, Ready) => Ok(Idle),
        (Idle | Busy, Assigned) => Ok(Busy),
        (Busy, Finished | TakenBack) => Ok(Busy),
        (Busy, FinishedLast | TakenBackLast) => Ok(Idle),
        (Starting | Idle | Retiring, Retire) => Ok(Retiring),
        // It was told to leave while its `Ready` was on the way.
        (Retiring, Ready) => Ok(Retiring),
        (Starting | Idle | Busy | Retiring | Dying, Kill) => Ok(Dying),
        (Starting | Idle | Busy | Retiring | Dying, Exited) => Ok(Gone),
        // Its last words, said before the signal arrived, still count.
        (Dying, Ready | Finished | FinishedLast | TakenBack | TakenBackLast | Retire) => Ok(Dying),
        (Starting | Idle | Retiring, Finished | FinishedLast) => Err(Fault::Theirs),
        (Idle | Busy, Ready) => Err(Fault::Theirs),
        (Starting | Idle | Retiring, TakenBack | TakenBackLast) => Err(Fault::Ours),
        (Starting | Retiring | Dying | Gone, Assigned) => Err(Fault::Ours),
        // A busy worker is never retired.
        (Busy, Retire) => Err(Fault::Ours),
        (Gone, Ready | Finished | FinishedLast | TakenBack | TakenBackLast | Retire | Kill | Exited) => {
            Err(Fault::Ours)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    const STATES: [State; 6] = [
        State::Starting,
        State::Idle,
        State::Busy,
        State::Retiring,
        State::Dying,
        State::Gone,
    ];
    const STEPS: [Step; 9] = [
        Step::Ready,
        Step::Assigned,
        Step::Finished,
        Step::FinishedLast,
        Step::TakenBack,
        Step::TakenBackLast,
        Step::Retire,
        Step::Kill,
        Step::Exited,
    ];

    #[test]
    fn the_table_of_a_workers_life() {
        let mut table = String::new();
        for state in STATES {
            for event in STEPS {
                let to = match step(state, event) {
                    Ok(to) if to == state => "stays".to_string(),
                    Ok(to) => format!("→ {to:?}"),
                    Err(fault) => format!("fault: {fault:?}"),
                };
                writeln!(
                    table,
                    "{:<9} {:<14} {to}",
                    format!("{state:?}"),
                    format!("{event:?}")
                )
                .expect("a string takes everything");
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn a_busy_worker_is_never_retired() {
        assert_eq!(step(State::Busy, Step::Retire), Err(Fault::Ours));
    }
}
