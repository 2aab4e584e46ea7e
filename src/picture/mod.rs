//! Small charts as SVG and PNG. Pure: numbers in, text or bytes out.
//!
//! - [`chart`]: axes, lines and dots. `labels`: where what stands beside a dot has room. [`shapes`]: what a chart is drawn of.
//!   [`svg`], [`png`]: the two formats.

pub mod chart;
mod labels;
pub mod png;
pub mod shapes;
pub mod svg;
