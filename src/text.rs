//! Text within limits, cut between characters.

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
}
