//! What can be read over HTTP at `metrics.listen`: metrics, health, and figures for who scales supervisors.
//!
//! - [`pages`]: which pages there are, and what each answers. Pure.
//! - [`server`]: it asks the supervisor over the channel that the control socket uses.

pub mod pages;
pub mod server;
#[cfg(test)]
mod tests;
