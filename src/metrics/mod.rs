//! Metrics in the text formats of Prometheus: what `status` knows, and what was counted since the start.
//!
//! - [`mod@text`]: families and samples become text; it knows nothing of pools.
//! - [`catalogue`]: every metric: its name, its meaning, where its figures come from. `docs/metrics.md` is its table.
//!
//! A scrape asks the broker nothing: it shows what the last scaling period found.

pub mod catalogue;
mod jobs;
mod metric;
pub mod text;

pub use text::Format;

use crate::fleet::figures::Figures;

/// All metrics, as text.
pub fn text(figures: &Figures, format: Format) -> String {
    text::write(catalogue::all(), figures, format)
}
