//! RQ's dialect: the words of `rq worker`, and its own program's settings.

mod dialect;
mod keys;
mod module;
mod options;
mod rules;
mod source;
mod values;
mod words;

pub use values::{DequeueStrategy, RqConfig};
