//! Why outcomes had no effect.

use super::message::Outcome;
use crate::broker::Pull;
use crate::broker::source::Late;

/// For each outcome whether it took effect, and why not.
pub(super) async fn fates(broker: &dyn Pull, sent: &[Outcome], taken: &[bool]) -> Vec<Option<Late>> {
    let late = sent.iter().zip(taken).filter(|(_, taken)| !**taken);
    let late: Vec<_> = late
        .map(|(outcome, _)| outcome.settlement.of.job.clone())
        .collect();
    let found = match late.is_empty() {
        true => Vec::new(),
        false => match broker.reader() {
            Ok(reader) => reader.find(&late).await.unwrap_or_default(),
            Err(_) => Vec::new(),
        },
    };
    let mut found = found.into_iter();
    let fate = |taken: &bool| match taken {
        true => None,
        false => Some(match found.next() {
            Some(None) => Late::Gone,
            Some(Some(_)) | None => Late::LeaseLost,
        }),
    };
    taken.iter().map(fate).collect()
}
