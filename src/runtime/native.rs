//! Rust tasks: typed functions by name.

/// A program's tasks and shared state.
#[derive(Debug, Default)]
pub struct App {}
