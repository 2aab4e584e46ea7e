//! Small charts as SVG and PNG. Pure: numbers in, text or bytes out.
//!
//! - [`chart`]: axes, lines and dots. [`shapes`]: what a chart is drawn of. [`svg`], [`png`]: the two formats.

pub mod chart;
pub mod png;
pub mod shapes;
pub mod svg;
