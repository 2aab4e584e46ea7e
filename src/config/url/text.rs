//! Parts of URLs, and URLs without their secrets.

/// A part of a URL, with `%40` read as `@`; `None` if it is no text then.
pub(in crate::config) fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok()
}

/// Text as a part of a URL: what [`decoded`] reads.
pub fn encoded(text: &str) -> String {
    let mut part = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            part.push(char::from(byte));
        } else {
            part.push_str(&format!("%{byte:02X}"));
        }
    }
    part
}

/// A text that was meant as a broker URL, with what may be a secret in it replaced by `***`:
/// user and password, and the values of query options. It may be mistyped: whatever stands before an `@` is hidden.
pub fn without_secrets(url: &str) -> String {
    let scheme_len = scheme_len(url);
    let (scheme, rest) = url.split_at(scheme_len);
    if scheme.starts_with("sqlite:") {
        return url
            .split_once('?')
            .map_or(url.to_owned(), |(path, _)| format!("{path}?***"));
    }
    let (at, query) = (rest.rfind('@'), rest.find('?'));
    match (at, query) {
        // Either may be part of a password.
        (Some(at), Some(query)) if query < at => format!("{scheme}***"),
        (Some(at), Some(query)) => format!("{scheme}***{}?***", &rest[at..query]),
        (Some(at), None) => format!("{scheme}***{}", &rest[at..]),
        (None, Some(query)) => format!("{scheme}{}?***", &rest[..query]),
        (None, None) => url.to_owned(),
    }
}

/// Length of `redis://` and what looks like it: a word, a colon and slashes, or slashes alone.
fn scheme_len(url: &str) -> usize {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "+.-".contains(c);
    let word = url.find(|c| !is_word(c)).unwrap_or(url.len());
    let after = url[word..].strip_prefix(':').unwrap_or(&url[word..]);
    let colon = url.len() - word - after.len();
    let slashes = after.len() - after.trim_start_matches('/').len();
    match (word, slashes) {
        (0, slashes) => colon + slashes,
        (_, 0) => 0,
        (word, slashes) if colon == 1 => word + 1 + slashes,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_reads_back_as_it_was() {
        assert_eq!(decoded(&encoded("a b@ß")).as_deref(), Some("a b@ß"));
        assert_eq!(decoded("%zz"), None);
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(
            without_secrets("redis://u:p@ss@host:6379/0"),
            "redis://***@host:6379/0"
        );
        assert_eq!(without_secrets("redis://host?password=x"), "redis://host?***");
        assert_eq!(without_secrets("sqlite:/a.db"), "sqlite:/a.db");
    }

    #[test]
    fn a_mistyped_url_shows_no_secret_either() {
        for (url, shown) in [
            ("redis:/u:pw@h", "redis:/***@h"),
            ("redis:u:pw@h", "***@h"),
            ("//u:pw@h", "//***@h"),
            ("u:pw@h:6379", "***@h:6379"),
            ("redis//u:pw@h", "***@h"),
            ("redis://u:p?w@h", "redis://***"),
            ("redis://h?password=p@w", "redis://***"),
            ("redis://u:p/w@h/0", "redis://***@h/0"),
            ("kafka://h", "kafka://h"),
        ] {
            assert_eq!(without_secrets(url), shown, "{url}");
        }
    }
}
