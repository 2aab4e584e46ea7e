//! The binary `pool`: the built-in app with the whole command line.
fn main() {}
