//! Text within limits, cut between characters; text from outside, shown so that no terminal obeys it.

use std::borrow::Cow;

/// The beginning of a text, at most `len_max` bytes.
pub fn head(text: &str, len_max: usize) -> &str {
    if text.len() <= len_max {
        return text;
    }
    let end = (0..=len_max).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// The end of a text, at most `len_max` bytes.
pub fn tail(text: &str, len_max: usize) -> &str {
    let surplus = text.len().saturating_sub(len_max);
    let start = (surplus..text.len()).find(|at| text.is_char_boundary(*at));
    &text[start.unwrap_or(text.len())..]
}

/// The first line of a text, and what comes below it, if anything does.
pub fn first_line(text: &str) -> (&str, Option<&str>) {
    match text.split_once('\n') {
        Some((first, rest)) => (first, Some(rest).filter(|rest| !rest.is_empty())),
        None => (text, None),
    }
}

/// Whether a terminal would obey this character, or show what follows in another order or on another line: the
/// controls C0, DEL and C1, the marks and overrides of direction (Unicode's `Bidi_Control`), the line and paragraph
/// separators, and the byte order mark.
pub fn steers_terminal(c: char) -> bool {
    let steers_direction = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    c.is_control() || steers_direction || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// The text on one line, with `\n` and `\u{1b}` in place of what [`steers_terminal`].
pub fn escaped(text: &str) -> Cow<'_, str> {
    escaped_but(text, |_| false)
}

/// As [`escaped`], but line breaks and tabs stay: for text of several lines.
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    escaped_but(text, |c| matches!(c, '\n' | '\t'))
}

fn escaped_but(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_escaped = |c: char| steers_terminal(c) && !stays(c);
    if !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// The same JSON, with `\u001b` in place of what [`steers_terminal`]. White space between its tokens stays.
pub fn escaped_json(json: &str) -> Cow<'_, str> {
    // In valid JSON, what is below a space stands between tokens; the rest stands in strings, where an escape is the same.
    let is_escaped = |c: char| steers_terminal(c) && c >= ' ';
    if !json.contains(is_escaped) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_escaped(c) {
            // None of them is above U+FFFF.
            shown.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// JSON in which escapes of half a character (`\ud83d` without its other half) are replaced by `\ufffd`.
///
/// Python's `json` and JavaScript write them, and nothing that holds text as Unicode can read them.
pub fn without_lone_surrogates(json: &[u8]) -> Cow<'_, [u8]> {
    let mut found = Cow::Borrowed(json);
    let mut at = 0;
    while let Some(ahead) = json[at..].iter().position(|byte| *byte == b'\\') {
        at += ahead;
        match (escaped_unit(json, at), escaped_unit(json, at + 6)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => at += 12,
            (Some(0xD800..=0xDFFF), _) => {
                found.to_mut()[at + 2..at + 6].copy_from_slice(b"fffd");
                at += 6;
            }
            // An escaped backslash may stand before a `u`.
            _ => at = (at + 2).min(json.len()),
        }
    }
    found
}

/// The number in an escape `\uHHHH` that begins here.
fn escaped_unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!((head("aäa", 2), tail("aäa", 2)), ("a", "a"));
        assert_eq!((head("aäa", 3), tail("aäa", 3)), ("aä", "äa"));
        assert_eq!((head("aäa", 4), tail("aäa", 9)), ("aäa", "aäa"));
        assert_eq!((head("ä", 0), tail("ä", 0)), ("", ""));
    }

    /// Clear the screen by C0 and by C1, DEL, an override of direction, a line break.
    const HOSTILE: &str = "a\u{1b}[2J\u{9b}2J\u{7f}\u{202e}b\u{2028}\nä";

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        let shown = escaped(HOSTILE);
        assert_eq!(shown, "a\\u{1b}[2J\\u{9b}2J\\u{7f}\\u{202e}b\\u{2028}\\nä");
        assert!(!shown.contains(steers_terminal));
        assert_eq!(escaped_lines("a\r\n\tb"), "a\\r\n\tb");
        assert!(matches!(escaped("plain ä → ✓"), Cow::Borrowed(_)));
    }

    #[test]
    fn escaped_json_is_the_same_json() {
        let json = serde_json::to_string(&[HOSTILE]).unwrap();
        let shown = escaped_json(&json);
        assert!(!shown.contains(steers_terminal), "{shown}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&shown).unwrap(), [HOSTILE]);
        assert_eq!(escaped_json("{\n}"), "{\n}");
    }

    #[test]
    fn half_a_character_is_replaced_and_whole_ones_stay() {
        for (json, readable) in [
            (r#""\udce9""#, "\u{fffd}"),
            (r#""a\ud83d!""#, "a\u{fffd}!"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
            (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
            (r#""\\udce9\n""#, "\\udce9\n"),
            (r#""\uDCE9\u00e9""#, "\u{fffd}é"),
        ] {
            let text: String = serde_json::from_slice(&without_lone_surrogates(json.as_bytes())).unwrap();
            assert_eq!(text, readable, "{json}");
        }
        for other in [r#""é\\""#, r"\", r"\u", r"\ud8", r"\u+123", "", "\\u00\u{e9}"] {
            assert!(
                matches!(without_lone_surrogates(other.as_bytes()), Cow::Borrowed(_)),
                "{other}"
            );
        }
    }
}
