//! JSON as it passes through the command line: arguments in, results out, numbers and order untouched.

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::value::RawValue;

use crate::text::{steers_terminal, without_lone_surrogates};

use super::report::{Code, Failure};

/// Checks that a text is one JSON value; the failure points at the spot.
pub fn check(what: &str, text: &str) -> Result<(), Failure> {
    check_with(what, text, |line, column| format!("line {line} column {column}"))
}

/// The same for a text that is a line of something, which `what` names.
pub fn check_line(what: &str, text: &str) -> Result<(), Failure> {
    check_with(what, text, |_, column| format!("column {column}"))
}

fn check_with(what: &str, text: &str, spot: impl Fn(usize, usize) -> String) -> Result<(), Failure> {
    let Err(error) = serde_json::from_str::<&RawValue>(text) else {
        return Ok(());
    };
    if text.trim().is_empty() {
        return Err(Failure::new(
            Code::Usage,
            format!("{what} is empty; expected a JSON value"),
        ));
    }
    let (line, column) = (error.line(), error.column());
    let said = error.to_string();
    let reason = said.split(" at line ").next().unwrap_or(&said);
    let excerpt = excerpt(text, line, column);
    let spot = spot(line, column);
    let message = format!("{what} is no JSON: {reason} at {spot}{excerpt}");
    Err(Failure::new(Code::Usage, message))
}

/// The line in question with a mark below the column; nothing when there is no such line.
fn excerpt(text: &str, line: usize, column: usize) -> String {
    /// Characters shown on either side of the mark.
    const AROUND: usize = 30;
    let Some(found) = line.checked_sub(1).and_then(|before| text.lines().nth(before)) else {
        return String::new();
    };
    // The parser counts bytes, and the byte may lie within a character.
    let at = (0..=column.saturating_sub(1).min(found.len()))
        .rev()
        .find(|at| found.is_char_boundary(*at))
        .unwrap_or(0);
    let before: Vec<char> = found[..at].chars().collect();
    let shown: String = before[before.len().saturating_sub(AROUND)..]
        .iter()
        .copied()
        .chain(found[at..].chars().take(AROUND))
        .map(|c| if steers_terminal(c) { ' ' } else { c })
        .collect();
    format!("\n  {shown}\n  {:>1$}", "^", before.len().min(AROUND) + 1)
}

/// A job's result as one JSON value on one line: JSON loses only its white space, other bytes become a string.
pub fn one_line(result: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(result) {
        Ok(text) if serde_json::from_str::<&RawValue>(text).is_ok() => without_line_breaks(text.trim()),
        _ => {
            let text = String::from_utf8_lossy(result);
            Cow::Owned(serde_json::Value::from(text.as_ref()).to_string())
        }
    }
}

/// Valid JSON without its line breaks: they can only stand between tokens.
fn without_line_breaks(text: &str) -> Cow<'_, str> {
    if text.contains(['\n', '\r']) {
        Cow::Owned(text.split(['\n', '\r']).map(str::trim).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// A result as its reader may want it bare: the bytes of a command's output that is no text as they were; the text of
/// a JSON string, and anything else as it is, with the last line ended.
pub fn raw(result: &[u8]) -> Vec<u8> {
    /// What the command runtime makes of bytes that are no text.
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Bytes {
        base64: String,
    }
    if let Ok(Bytes { base64 }) = serde_json::from_slice(result)
        && let Ok(bytes) = BASE64_STANDARD.decode(base64)
    {
        return bytes;
    }
    let mut bytes = match serde_json::from_slice::<String>(&without_lone_surrogates(result)) {
        Ok(text) => text.into_bytes(),
        Err(_) => result.to_vec(),
    };
    if !bytes.ends_with(b"\n") {
        bytes.push(b'\n');
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        format!("{:?}", check("ARGS-JSON", text).unwrap_err())
    }

    #[test]
    fn any_json_value_is_accepted() {
        for text in [
            "{}",
            "[1, 2]",
            "\"x\"",
            "null",
            " 1e999 ",
            "12345678901234567890123",
        ] {
            assert_eq!(check("ARGS-JSON", text), Ok(()), "{text}");
        }
    }

    #[test]
    fn the_error_points_at_the_spot() {
        let said = message(r#"{"n": 30]"#);
        assert!(said.contains("expected `,` or `}` at line 1 column 9"), "{said}");
        assert!(said.contains(r#"\n  {\"n\": 30]\n          ^"#), "{said}");
    }

    #[test]
    fn the_mark_survives_long_lines_and_wide_characters() {
        let text = format!("[\"{}\", x{}]", "é".repeat(500), "y".repeat(500));
        let said = message(&text);
        assert!(said.contains("expected value"), "{said}");
        assert!(said.len() < 500, "{said}");
        for text in ["", "[", "é", "[\"é", "\n\n", "[1]\n\u{1F980}"] {
            let _ = message(text);
        }
    }

    #[test]
    fn a_result_fits_on_one_line_and_keeps_its_digits() {
        assert_eq!(one_line(b"12345678901234567890123"), "12345678901234567890123");
        assert_eq!(
            one_line(b"{\n  \"b\": 1,\n  \"a\": \"x  y\"\n}\n"),
            r#"{"b": 1,"a": "x  y"}"#
        );
        assert_eq!(one_line(b"two\nlines"), r#""two\nlines""#);
        assert_eq!(one_line(b"\xff"), "\"\u{fffd}\"");
    }

    #[test]
    fn a_bare_string_loses_its_quotes_and_nothing_else_changes() {
        assert_eq!(raw(br#""two\nlines\n""#), b"two\nlines\n");
        assert_eq!(raw(b"[1, 2]"), b"[1, 2]\n");
        assert_eq!(raw(br#""caf\udce9""#), "caf\u{fffd}\n".as_bytes());
    }

    #[test]
    fn bare_bytes_are_those_that_the_command_printed() {
        assert_eq!(raw(br#"{"base64":"iVBO/w=="}"#), b"\x89PN\xff");
        for other in [r#"{"base64":"no base64"}"#, r#"{"base64":"iVBO","name":"a"}"#] {
            assert_eq!(raw(other.as_bytes()), format!("{other}\n").as_bytes());
        }
    }
}
