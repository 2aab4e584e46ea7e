//! Decisions as sentences. Pure: records in, text out.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cli::confirm::jobs;
use crate::fleet::snapshot::Decision;
use crate::telemetry::history::record::{Decided, Step};
use crate::text::escaped;
use crate::time::{Human, Unix, seconds_to_duration};

/// After this a decision says nothing of the present.
const STALE: Duration = Duration::from_secs(60);

/// Changes that are listed, the newest of all.
const CHANGES_MAX: usize = 10;

/// Why a pool has its size: its decisions and steps since so long ago, the oldest first.
pub fn explain(
    pool: &str,
    decisions: &[Decided],
    steps: &[Step],
    (since, now): (Duration, Unix),
) -> Vec<String> {
    let pool = escaped(pool);
    let decisions: Vec<&Decision> = decisions.iter().map(|decided| &decided.decision).collect();
    let Some(last) = decisions.last() else {
        let mut sentences = vec![format!("{pool} made no decision in the last {}.", Human(since))];
        sentences.extend(long_run(steps));
        return sentences;
    };
    let size = if last.dry_run { last.from } else { last.to };
    // Of a supervisor that has ended, and of a pool that the settings have no more, only the record is left.
    let has = match now.since(last.at) {
        age if age > STALE => format!(
            "had {} when it last decided, {} ago",
            workers(size),
            ago(last, now)
        ),
        _ => format!("has {}", workers(size)),
    };
    let mut sentences = vec![format!(
        "{pool} {has}, by the policy {}. min_workers is {}, max_workers is {}.",
        last.policy, last.min, last.max
    )];
    let changes: Vec<&Decision> = decisions
        .iter()
        .copied()
        .filter(|decision| is_change(decision))
        .collect();
    match changes.last() {
        Some(change) => sentences.push(format!(
            "  {} ago it went from {} to {}: {}.",
            ago(change, now),
            change.from,
            workers(change.to),
            cause(change)
        )),
        None => sentences.push(format!(
            "  It has had this size for the last {} at least.",
            ago(decisions[0], now)
        )),
    }
    if !is_change(last) {
        sentences.push(format!("  {} ago it stayed: {}.", ago(last, now), stays(last)));
    }
    sentences.extend(held(&decisions));
    sentences.extend(list(&changes, now));
    sentences.extend(long_run(steps));
    sentences
}

fn is_change(decision: &Decision) -> bool {
    decision.from != decision.to && !decision.dry_run
}

/// `1 worker`, `10 workers`
fn workers(count: u32) -> String {
    match count {
        1 => "1 worker".to_owned(),
        count => format!("{count} workers"),
    }
}

fn ago(decision: &Decision, now: Unix) -> String {
    let seconds = now.since(decision.at).as_secs();
    Human(Duration::from_secs(seconds)).to_string()
}

fn span(seconds: f64) -> String {
    Human(seconds_to_duration(seconds).unwrap_or_default()).to_string()
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A share that is compared with another one: with as many digits as tell them apart.
fn percent_beside(share: f64, other: f64) -> String {
    let shown = |digits: usize, share: f64| format!("{:.digits$} %", share * 100.0);
    let differs = |digits: &usize| share == other || shown(*digits, share) != shown(*digits, other);
    shown((0..3).find(differs).unwrap_or(3), share)
}

/// `3 of 4 workers were busy`
fn busy_of(busy: u32, from: u32) -> String {
    let were = if busy == 1 { "was" } else { "were" };
    if busy > from {
        format!("{} {were} busy, more than it is to have", workers(busy))
    } else {
        format!("{busy} of {} {were} busy", workers(from))
    }
}

/// Why the size changed, or would.
fn cause(decision: &Decision) -> String {
    let cause = match (decision.term.as_deref(), &*decision.reason) {
        (_, "below minimum") => format!("it was below its minimum of {}", workers(decision.min)),
        (_, "above maximum") => format!(
            "it was above {}",
            decision.limit.as_deref().unwrap_or("max_workers")
        ),
        (_, "no throughput") => match decision.growth_gain {
            Some(gain) => format!(
                "its growth brought no throughput. Jobs took so much longer that {} of the added workers counted",
                percent(gain.max(0.0))
            ),
            None => "more workers had brought no throughput".to_owned(),
        },
        (_, "jobs waiting") if decision.from == 0 => "a job waited, and there was no worker".to_owned(),
        (Some("clears what waits"), _) => clears(decision),
        (Some("one more"), _) => format!(
            "{}, above the threshold of {}",
            load(decision),
            percent(decision.threshold)
        ),
        (Some("unused"), _) => format!("not one job ran in the last {}", span(decision.window_s)),
        (Some(_), _) => below(decision),
        (None, reason) => reason.to_owned(),
    };
    match &decision.limit {
        Some(limit) if decision.reason == "below minimum" && limit == "min_workers" => cause,
        Some(limit) if decision.wished != decision.to => format!("{cause}. {limit} held"),
        _ => cause,
    }
}

/// What waited, and what was wished for it.
fn clears(decision: &Decision) -> String {
    let jobs = match decision.waiting {
        1 => "1 job".to_owned(),
        jobs => format!("{jobs} jobs"),
    };
    let oldest = decision.oldest_waiting_s;
    let oldest = oldest.map_or_else(String::new, |oldest_s| {
        format!(" the oldest for {},", span(oldest_s))
    });
    format!(
        "{jobs} waited,{oldest} with {} of work, and {}. It wished for {}: enough to clear that within {}, \
         and one for each job at most",
        span(decision.work_s),
        busy_of(decision.busy, decision.from),
        decision.wished,
        span(decision.target_wait_s.unwrap_or(0.0)),
    )
}

/// `1.86 workers were busy on average over 30s, 62 % of 3`
fn load(decision: &Decision) -> String {
    match (decision.busy_average, decision.utilization) {
        (Some(busy), Some(share)) => format!(
            "{busy:.2} workers were busy on average over {}, {} of {}",
            span(decision.window_s),
            percent_beside(share, decision.threshold),
            decision.from
        ),
        _ if decision.from == 0 => "it has no workers, and no job waits".to_owned(),
        _ => "nothing was measured yet".to_owned(),
    }
}

/// Below half the threshold, and what the load needs.
fn below(decision: &Decision) -> String {
    let asked = |term: &str| {
        let candidate = decision
            .candidates
            .iter()
            .find(|candidate| candidate.term == term);
        candidate.map(|candidate| candidate.workers)
    };
    let below = format!(
        "{}, below half of the threshold of {}",
        load(decision),
        percent(decision.threshold)
    );
    match (asked("average load"), asked("peak load")) {
        (Some(average), Some(peak)) => format!(
            "{below}. That needs {}, and {peak} were busy at once in the last period",
            workers(average)
        ),
        _ => below,
    }
}

/// Why the size did not change.
fn stays(decision: &Decision) -> String {
    if decision.dry_run && decision.from != decision.to {
        return format!(
            "this is a dry run. It would have {}: {}",
            workers(decision.to),
            cause(decision)
        );
    }
    match &*decision.reason {
        "at maximum" => format!(
            "{}. It wished for {}, and is at max_workers",
            load(decision),
            workers(decision.wished)
        ),
        "paused" => "somebody paused the pool".to_owned(),
        "app not loadable" => "no template is ready to fork from".to_owned(),
        "no throughput" => format!(
            "{}. It wished for {}, and more workers had brought no throughput",
            load(decision),
            workers(decision.wished)
        ),
        "memory budget" | "total workers" | "permits" => format!(
            "{}. It wished for {}, and {} held",
            load(decision),
            workers(decision.wished),
            decision.limit.as_deref().unwrap_or(&decision.reason)
        ),
        _ => match decision.utilization {
            None => load(decision),
            Some(share) if share > decision.threshold => load(decision),
            Some(share) if share >= decision.threshold / 2.0 => format!(
                "{}, between half of the threshold of {} and all of it",
                load(decision),
                percent(decision.threshold)
            ),
            Some(_) if decision.limit.as_deref() == Some("min_workers") => {
                format!("{}. It is at min_workers", load(decision))
            }
            Some(_) if decision.waiting > 0 => {
                format!("{}. It does not shrink while a job waits", load(decision))
            }
            Some(_) => below(decision),
        },
    }
}

/// `  max_workers held 12 times; it wished for up to 34 workers.`
fn held(decisions: &[&Decision]) -> Vec<String> {
    let mut limits: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    let is_growth = |decision: &&&Decision| decision.wished > decision.from.max(decision.to);
    for decision in decisions.iter().filter(is_growth) {
        if let Some(limit) = &decision.limit {
            let (times, most) = limits.entry(limit).or_default();
            (*times, *most) = (*times + 1, decision.wished.max(*most));
        }
    }
    let line = |(limit, (times, most)): (&str, (u32, u32))| {
        let times = if times == 1 {
            "once".to_owned()
        } else {
            format!("{times} times")
        };
        format!(
            "  {limit} held growth {times}. It wished for up to {}.",
            workers(most)
        )
    };
    limits.into_iter().map(line).collect()
}

/// The last changes, a line each.
fn list(changes: &[&Decision], now: Unix) -> Vec<String> {
    let [.., _, _] = changes else {
        return Vec::new(); // the only one was told
    };
    let first = changes.len().saturating_sub(CHANGES_MAX);
    let line = |change: &&Decision| {
        let term = change.term.as_deref().unwrap_or(&change.reason);
        format!(
            "    {:>8} ago  {} → {}  {term}",
            ago(change, now),
            change.from,
            change.to
        )
    };
    let head = format!("  It changed {} times. The last changes:", changes.len());
    std::iter::once(head)
        .chain(changes[first..].iter().map(line))
        .collect()
}

/// What the steps say together.
fn long_run(steps: &[Step]) -> Vec<String> {
    let seen_s: f64 = steps.iter().map(|step| step.seen_s).sum();
    if seen_s <= 0.0 {
        return Vec::new();
    }
    let worker_s: f64 = steps.iter().map(|step| step.worker_s).sum();
    let busy_s: f64 = steps.iter().map(|step| step.busy_s).sum();
    let fewest = steps.iter().map(|step| step.workers_min).min().unwrap_or(0);
    let most = steps.iter().map(|step| step.workers_max).max().unwrap_or(0);
    let waiting = steps.iter().map(|step| step.waiting_max).max().unwrap_or(0);
    vec![format!(
        "  In {} of whole steps it had {fewest} to {}, {:.1} on average, of which {:.1} were busy. At most {} waited.",
        Human(Duration::from_secs(seen_s as u64)),
        workers(most),
        worker_s / seen_s,
        busy_s / seen_s,
        jobs(waiting),
    )]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::snapshot::Candidate;

    const NOW: Unix = Unix(1_700_000_000_000);

    fn decision(ago_s: i64, (from, to): (u32, u32)) -> Decision {
        Decision {
            at: Unix(NOW.0 - ago_s * 1000),
            from,
            to,
            reason: "steady".into(),
            utilization: Some(0.31),
            threshold: 0.5,
            window_s: 30.0,
            policy: "demand".into(),
            occasion: "period".into(),
            busy_average: Some(3.1),
            target_wait_s: Some(1.0),
            min: 2,
            max: 24,
            wished: to,
            ..Decision::default()
        }
    }

    fn jump(ago_s: i64) -> Decision {
        Decision {
            reason: "jobs waiting".into(),
            term: Some("clears what waits".into()),
            busy: 4,
            waiting: 50,
            work_s: 30.0,
            oldest_waiting_s: Some(0.2),
            wished: 34,
            limit: Some("max_workers".into()),
            ..decision(ago_s, (4, 24))
        }
    }

    fn told(decisions: Vec<Decision>) -> String {
        let decided = |decision| Decided {
            pool: "default".into(),
            decision,
            queues: Vec::new(),
        };
        let decisions: Vec<Decided> = decisions.into_iter().map(decided).collect();
        explain("default", &decisions, &[], (Duration::from_secs(3600), NOW)).join("\n")
    }

    #[test]
    fn a_jump_is_told_with_what_it_was_for() {
        insta::assert_snapshot!(told(vec![
            decision(200, (4, 4)),
            jump(180),
            decision(3, (24, 24))
        ]));
    }

    #[test]
    fn shares_that_are_compared_are_told_apart() {
        assert_eq!(percent_beside(0.62, 0.5), "62 %");
        assert_eq!(percent_beside(0.502, 0.5), "50.2 %");
        assert_eq!(percent_beside(0.500_01, 0.5), "50.001 %");
        assert_eq!(percent_beside(0.5, 0.5), "50 %");
    }

    #[test]
    fn the_busy_are_counted_in_words() {
        assert_eq!(busy_of(1, 1), "1 of 1 worker was busy");
        assert_eq!(busy_of(3, 4), "3 of 4 workers were busy");
        assert_eq!(busy_of(4, 2), "4 workers were busy, more than it is to have");
        assert_eq!(busy_of(1, 0), "1 worker was busy, more than it is to have");
    }

    #[test]
    fn an_age_that_is_not_known_is_left_out() {
        let unknown = Decision {
            oldest_waiting_s: None,
            ..jump(3)
        };
        let told = clears(&unknown);
        assert!(
            told.starts_with("50 jobs waited, with 30s of work, and"),
            "{told}"
        );
    }

    #[test]
    fn a_pool_below_its_minimum_says_which() {
        let floor = Decision {
            reason: "below minimum".into(),
            limit: Some("min_workers".into()),
            min: 5,
            wished: 2,
            ..decision(3, (2, 5))
        };
        assert_eq!(cause(&floor), "it was below its minimum of 5 workers");
    }

    #[test]
    fn each_change_and_each_reason_to_stay_has_its_words() {
        let more = Decision {
            reason: "utilization".into(),
            term: Some("one more".into()),
            utilization: Some(0.62),
            busy_average: Some(1.86),
            ..decision(100, (3, 4))
        };
        let candidate = |term: &str, workers| Candidate {
            term: term.into(),
            workers,
        };
        let fewer = Decision {
            reason: "utilization".into(),
            term: Some("peak load".into()),
            utilization: Some(0.1),
            candidates: vec![candidate("peak load", 3), candidate("average load", 1)],
            ..decision(50, (4, 3))
        };
        let full = Decision {
            reason: "at maximum".into(),
            limit: Some("max_workers".into()),
            wished: 25,
            ..decision(3, (24, 24))
        };
        let dry = Decision {
            dry_run: true,
            ..jump(3)
        };
        let held = Decision {
            reason: "no throughput".into(),
            limit: Some("throughput_hold".into()),
            growth_gain: Some(0.02),
            wished: 25,
            ..decision(20, (24, 4))
        };
        let still_held = Decision {
            growth_gain: None,
            ..decision(3, (4, 4))
        };
        let still_held = Decision {
            reason: held.reason.clone(),
            limit: held.limit.clone(),
            wished: 5,
            ..still_held
        };
        let permits = Decision {
            reason: "permits".into(),
            limit: Some("permits.database".into()),
            wished: 9,
            ..decision(3, (8, 8))
        };
        let idle = Decision {
            limit: Some("min_workers".into()),
            utilization: Some(0.0),
            busy_average: Some(0.0),
            wished: 0,
            ..decision(3, (2, 2))
        };
        let stories = [
            vec![more.clone()],
            vec![more, fewer],
            vec![full],
            vec![dry],
            vec![idle],
            vec![held, still_held],
            vec![permits],
            vec![],
        ];
        insta::assert_snapshot!(stories.map(told).join("\n\n"));
    }
}
