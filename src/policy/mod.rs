//! Decisions as pure functions: no I/O, no clock, no state that is not an argument or a field.
