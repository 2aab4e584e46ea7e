//! How a metric is defined, and the shapes that many have. Pure.

use crate::fleet::figures::Figures;
use crate::fleet::snapshot::PoolSnapshot;
use crate::fleet::tally::{Reasons, Tally};

use super::text::{Family, Kind, Samples};

/// A family of metrics, read from the figures of a supervisor.
pub type Metric = Family<Figures>;

pub(super) const fn gauge(
    name: &'static str,
    help: &'static str,
    read: fn(&Figures, &mut Samples<'_>),
) -> Metric {
    family(name, Kind::Gauge, help, read)
}

pub(super) const fn counter(
    name: &'static str,
    help: &'static str,
    read: fn(&Figures, &mut Samples<'_>),
) -> Metric {
    family(name, Kind::Counter, help, read)
}

pub(super) const fn histogram(
    name: &'static str,
    help: &'static str,
    read: fn(&Figures, &mut Samples<'_>),
) -> Metric {
    family(name, Kind::Histogram, help, read)
}

const fn family(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    read: fn(&Figures, &mut Samples<'_>),
) -> Metric {
    Family {
        name,
        kind,
        help,
        read,
    }
}

/// One figure a pool, of what is now.
pub(super) fn shown(figures: &Figures, out: &mut Samples<'_>, of: fn(&PoolSnapshot) -> f64) {
    for (name, pool) in &figures.snapshot.pools {
        out.add(&[("pool", name)], of(pool));
    }
}

/// One figure a pool, of what was counted.
pub(super) fn counted(figures: &Figures, out: &mut Samples<'_>, of: fn(&Tally) -> u64) {
    for (name, tally) in &figures.pools {
        out.count(&[("pool", name)], of(tally));
    }
}

/// What was counted by reason.
pub(super) fn by_reason(figures: &Figures, out: &mut Samples<'_>, of: fn(&Tally) -> &Reasons) {
    for (name, tally) in &figures.pools {
        for (reason, count) in of(tally) {
            out.count(&[("pool", name), ("reason", &word(reason))], *count);
        }
    }
}

/// A reason as a label's value.
pub(super) fn word(reason: &str) -> String {
    reason.replace(' ', "_")
}
