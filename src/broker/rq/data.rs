//! The call that a job carries, and what it returned, in the words of the serializer.

use super::python::{Value, from_json, pickle, repr, to_json, unpickle};

/// Longest argument in a description, in characters. Source: `rq/job.py`, `Job.get_call_string`.
const SHOWN_MAX: usize = 75;

/// How job data and results are written; producers and workers must agree. Source: `rq/serializers.py`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Serializer {
    Pickle,
    Json,
    /// Code of the application's, by its dotted name: only Python can run it.
    Other(String),
}

impl Serializer {
    /// The one that the setting `rq.serializer` names.
    pub fn named(name: &str) -> Self {
        match name {
            "pickle" | "rq.serializers.DefaultSerializer" | "rq.serializers.PickleSerializer" => {
                Serializer::Pickle
            }
            "json" | "rq.serializers.JSONSerializer" => Serializer::Json,
            other => Serializer::Other(other.to_owned()),
        }
    }

    /// The bytes of a value; the error says why there are none.
    pub fn dumps(&self, value: &Value) -> Result<Vec<u8>, String> {
        match self {
            Serializer::Pickle => Ok(pickle(value)),
            Serializer::Json => Ok(to_json(value).into_bytes()),
            Serializer::Other(name) => Err(format!(
                "the serializer `{name}` is Python code; enqueue with `rq enqueue -S {name}`, or from Python"
            )),
        }
    }

    /// The value of these bytes; `None` when they can't be read here.
    pub fn loads(&self, bytes: &[u8]) -> Option<Value> {
        match self {
            Serializer::Pickle => unpickle(bytes),
            Serializer::Json => from_json(bytes).ok(),
            Serializer::Other(_) => None,
        }
    }

    /// A result as JSON. What is an object of Python, or can't be read at all, is told as one: its class and how many
    /// bytes it has.
    pub fn result(&self, bytes: &[u8]) -> Vec<u8> {
        let unknown = |class: Option<String>| {
            serde_json::json!({ "python_object": class, "serialized_bytes": bytes.len() })
                .to_string()
                .into_bytes()
        };
        match self.loads(bytes) {
            Some(Value::Object(class)) => unknown(Some(class)),
            // As it was written, digits and spaces included.
            Some(_) if *self == Serializer::Json => bytes.to_vec(),
            Some(value) => to_json(&value).into_bytes(),
            None => unknown(None),
        }
    }
}

/// A call of a function.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    function: String,
    args: Vec<Value>,
    kwargs: Vec<(Value, Value)>,
}

impl Call {
    /// The call that arguments in JSON ask for: an array is the arguments in their order, an object those by name,
    /// `null` or nothing none, any other value the only one.
    pub fn new(function: &str, payload: &[u8]) -> Result<Self, String> {
        let (mut args, mut kwargs) = (Vec::new(), Vec::new());
        if !payload.trim_ascii().is_empty() {
            match from_json(payload)? {
                Value::List(items) => args = items,
                Value::Dict(entries) => kwargs = entries,
                Value::None => {}
                value => args.push(value),
            }
        }
        Ok(Call {
            function: function.to_owned(),
            args,
            kwargs,
        })
    }

    /// What the field `data` holds, before it is compressed. Source: `rq/job.py`, `Job.data`.
    pub fn data(&self, serializer: &Serializer) -> Result<Vec<u8>, String> {
        serializer.dumps(&Value::Tuple(vec![
            Value::Text(self.function.clone()),
            Value::None,
            Value::Tuple(self.args.clone()),
            Value::Dict(self.kwargs.clone()),
        ]))
    }

    /// The call that a job carries.
    pub fn read(serializer: &Serializer, data: &[u8]) -> Option<Self> {
        let (Value::Tuple(parts) | Value::List(parts)) = serializer.loads(data)? else {
            return None;
        };
        let Ok([Value::Text(function), _, args, Value::Dict(kwargs)]) = <[Value; 4]>::try_from(parts) else {
            return None;
        };
        let (Value::Tuple(args) | Value::List(args)) = args else {
            return None;
        };
        Some(Call {
            function,
            args,
            kwargs,
        })
    }

    /// What is called.
    pub fn function(&self) -> &str {
        &self.function
    }

    /// The arguments as JSON: an array, an object when all are named; both when some are.
    pub fn payload(&self) -> Vec<u8> {
        let (args, kwargs) = (Value::List(self.args.clone()), Value::Dict(self.kwargs.clone()));
        let shown = match (self.args.is_empty(), self.kwargs.is_empty()) {
            (true, true) => return Vec::new(),
            (false, true) => args,
            (true, false) => kwargs,
            (false, false) => Value::Dict(vec![
                (Value::Text("args".to_owned()), args),
                (Value::Text("kwargs".to_owned()), kwargs),
            ]),
        };
        to_json(&shown).into_bytes()
    }

    /// The call as Python code, long arguments cut. Source: `rq/utils.py`, `get_call_string`.
    pub fn description(&self) -> String {
        let args = self.args.iter().map(shown);
        let mut named: Vec<String> = self
            .kwargs
            .iter()
            .map(|(name, value)| match name {
                Value::Text(name) => format!("{name}={}", shown(value)),
                name => format!("{}={}", repr(name), shown(value)),
            })
            .collect();
        named.sort();
        let all: Vec<String> = args.chain(named).collect();
        format!("{}({})", self.function, all.join(", "))
    }
}

fn shown(value: &Value) -> String {
    let text = repr(value);
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(payload: &str) -> Call {
        Call::new("shop.send", payload.as_bytes()).unwrap()
    }

    #[test]
    fn arguments_are_in_their_order_by_name_or_one() {
        assert_eq!(call("").description(), "shop.send()");
        assert_eq!(call("[1, \"a\"]").description(), "shop.send(1, 'a')");
        assert_eq!(
            call(r#"{"b": null, "a": true}"#).description(),
            "shop.send(a=True, b=None)"
        );
        assert_eq!(call("7").description(), "shop.send(7)");
        assert_eq!(call("null").description(), "shop.send()");
    }

    #[test]
    fn a_call_is_read_as_it_was_written() {
        for serializer in [Serializer::Pickle, Serializer::Json] {
            for payload in ["[1, [2.5]]", r#"{"to": "ada"}"#, ""] {
                let data = call(payload).data(&serializer).unwrap();
                let read = Call::read(&serializer, &data).unwrap();
                assert_eq!((read.function(), read.payload()), ("shop.send", payload.into()));
            }
        }
    }

    #[test]
    fn long_arguments_are_cut_in_the_description() {
        let description = call(&format!("[\"{}\"]", "é".repeat(100))).description();
        assert_eq!(description, format!("shop.send('{}...)", "é".repeat(74)));
    }

    #[test]
    fn a_result_that_is_no_plain_value_is_told_by_class_and_size() {
        let shown =
            |serializer: &Serializer, bytes: &[u8]| String::from_utf8(serializer.result(bytes)).unwrap();
        assert_eq!(shown(&Serializer::Pickle, b"\x80\x02K\x07."), "7");
        assert_eq!(
            shown(&Serializer::Pickle, b"\x80\x02cshop\nCart\n)\x81."),
            r#"{"python_object":"shop.Cart","serialized_bytes":16}"#
        );
        let own = Serializer::named("shop.Packer");
        assert_eq!(
            shown(&own, b"abc"),
            r#"{"python_object":null,"serialized_bytes":3}"#
        );
        assert!(
            own.dumps(&Value::None)
                .unwrap_err()
                .contains("rq enqueue -S shop.Packer")
        );
    }
}
