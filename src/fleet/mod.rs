//! The template and its workers as data.

pub mod snapshot;
