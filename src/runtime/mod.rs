//! How each runtime's template starts, and the tasks that this crate runs itself.

pub mod native;
