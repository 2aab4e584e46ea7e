//! Celery's dialect: the words of `celery worker`, and what its application says here and what it says itself.

mod dialect;
mod keys;
mod line;
mod rules;
mod values;

pub use values::CeleryConfig;
