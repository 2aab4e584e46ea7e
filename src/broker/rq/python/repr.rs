//! Values as Python's `repr` shows them: descriptions of jobs are made of these.

use std::fmt::Write;

use super::Value;

/// The value as Python code.
pub(in crate::broker::rq) fn repr(value: &Value) -> String {
    match value {
        Value::None => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Int(digits) => digits.clone(),
        Value::Float(number) => float(*number),
        Value::Text(content) => quoted(content.chars(), char::is_control),
        Value::Bytes(bytes) => {
            let bytes = bytes.iter().map(|byte| char::from(*byte));
            format!("b{}", quoted(bytes, |c| c.is_control() || !c.is_ascii()))
        }
        Value::List(items) => format!("[{}]", listed(items)),
        Value::Tuple(items) => match items.as_slice() {
            [one] => format!("({},)", repr(one)),
            items => format!("({})", listed(items)),
        },
        Value::Dict(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, item)| format!("{}: {}", repr(key), repr(item)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Object(class) => format!("<{class}>"),
    }
}

fn listed(items: &[Value]) -> String {
    items.iter().map(repr).collect::<Vec<_>>().join(", ")
}

/// The shortest digits that give the number back, with an exponent where Python writes one.
fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if number != 0.0 && !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{number:?}"),
    }
}

fn quoted(content: impl Iterator<Item = char> + Clone, is_escaped: impl Fn(char) -> bool) -> String {
    let has = |wanted: char| content.clone().any(|c| c == wanted);
    let quote = if has('\'') && !has('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in content {
        // Writing to memory does not fail.
        let _ = match c {
            '\\' => out.write_str("\\\\"),
            '\n' => out.write_str("\\n"),
            '\r' => out.write_str("\\r"),
            '\t' => out.write_str("\\t"),
            c if c == quote => write!(out, "\\{c}"),
            c if is_escaped(c) => write!(out, "\\x{:02x}", u32::from(c)),
            c => out.write_char(c),
        };
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_python_writes_them() {
        let shown = |number: f64| repr(&Value::Float(number));
        assert_eq!(shown(1.0), "1.0");
        assert_eq!(shown(0.1), "0.1");
        assert_eq!(shown(-0.0), "-0.0");
        assert_eq!(shown(1e15), "1000000000000000.0");
        assert_eq!(shown(1e16), "1e+16");
        assert_eq!(shown(1.5e-7), "1.5e-07");
        assert_eq!(shown(0.0001), "0.0001");
        assert_eq!(shown(f64::NEG_INFINITY), "-inf");
    }

    #[test]
    fn text_is_quoted_as_python_quotes_it() {
        let shown = |content: &str| repr(&Value::Text(content.to_owned()));
        assert_eq!(shown("plain é"), "'plain é'");
        assert_eq!(shown("it's"), "\"it's\"");
        assert_eq!(shown("it's \"it\"\n\u{1b}"), "'it\\'s \"it\"\\n\\x1b'");
    }

    #[test]
    fn containers_look_as_in_code() {
        let one = || Value::Int("1".into());
        assert_eq!(repr(&Value::Tuple(vec![one()])), "(1,)");
        assert_eq!(repr(&Value::List(vec![one(), Value::None])), "[1, None]");
        let dict = Value::Dict(vec![(Value::Text("a".into()), Value::Bool(true))]);
        assert_eq!(repr(&dict), "{'a': True}");
        assert_eq!(repr(&Value::Bytes(b"a\xe9".to_vec())), "b'a\\xe9'");
    }
}
