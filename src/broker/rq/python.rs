//! Values of Python as jobs carry them: what JSON can say, in both directions, and the mere name of anything else.
//!
//! Nothing of Python is executed here: an object is known by the name of its class.

mod json;
mod pickle;
mod repr;
mod unpickle;

pub(super) use json::{from_json, to_json};
pub(super) use pickle::pickle;
pub(super) use repr::repr;
pub(super) use unpickle::unpickle;

/// Levels of lists and dictionaries within each other, at the most.
const DEPTH_MAX: usize = 100;

/// A value of Python.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    /// Its digits: Python knows no largest one.
    Int(String),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Tuple(Vec<Value>),
    /// In the order in which it was built; a later entry of the same key counts.
    Dict(Vec<(Value, Value)>),
    /// An instance of this class, or what this function makes; nobody here knows more of it.
    Object(String),
}
