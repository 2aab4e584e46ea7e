//! Which queue of a pool comes first.

use crate::job::{QueueName, QueueOrder};

/// The queues in the order in which the next call looks at them. `turn` grows with each call.
pub fn ordered(
    queues: &[QueueName],
    order: QueueOrder,
    turn: usize,
    rng: &mut fastrand::Rng,
) -> Vec<QueueName> {
    let mut queues = queues.to_vec();
    match order {
        QueueOrder::Strict => {}
        QueueOrder::RoundRobin => {
            let by = turn % queues.len().max(1);
            queues.rotate_left(by);
        }
        QueueOrder::Random => rng.shuffle(&mut queues),
    }
    queues
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_queue_has_its_turn() {
        let queues: Vec<_> = ["a", "b", "c"].map(|name| QueueName::new(name).unwrap()).into();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut first = |order, turn| ordered(&queues, order, turn, &mut rng)[0].to_string();
        let turns: Vec<_> = (0..4).map(|turn| first(QueueOrder::RoundRobin, turn)).collect();
        assert_eq!(turns, ["a", "b", "c", "a"]);
        assert_eq!(first(QueueOrder::Strict, 5), "a");
    }
}
