//! Times as messages hold them: ISO 8601 as Python's `datetime.isoformat` writes it.

use crate::time::Unix;

/// Reads a time; one without an offset is UTC. `None`: it is no time.
pub(super) fn read(text: &str) -> Option<Unix> {
    let bytes = text.trim().as_bytes();
    let (days, rest) = date(bytes)?;
    if rest.is_empty() {
        return Some(Unix(days * 86_400_000));
    }
    let rest = rest.strip_prefix(b"T").or_else(|| rest.strip_prefix(b" "))?;
    let (hour, rest) = number(rest, 2)?;
    let (minute, rest) = number(rest.strip_prefix(b":")?, 2)?;
    let (second, rest) = match rest.strip_prefix(b":") {
        Some(rest) => number(rest, 2)?,
        None => (0, rest),
    };
    let (millis, rest) = match rest.strip_prefix(b".").or_else(|| rest.strip_prefix(b",")) {
        Some(rest) => fraction(rest)?,
        None => (0, rest),
    };
    if hour > 24 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset(rest)?;
    Some(Unix(seconds * 1000 + millis))
}

/// Days since 1970 of the proleptic Gregorian calendar, with years that begin in March.
fn date(text: &[u8]) -> Option<(i64, &[u8])> {
    let (year, rest) = number(text, 4)?;
    let (month, rest) = number(rest.strip_prefix(b"-")?, 2)?;
    let (day, rest) = number(rest.strip_prefix(b"-")?, 2)?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let years = if month <= 2 { year - 1 } else { year };
    let of_era = years.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = years.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    Some((days - 719_468, rest))
}

/// A number of so many digits, and what follows.
fn number(text: &[u8], digits: usize) -> Option<(i64, &[u8])> {
    let (number, rest) = text.split_at_checked(digits)?;
    number.iter().all(u8::is_ascii_digit).then_some(())?;
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, rest))
}

/// Milliseconds of a fraction of a second, cut.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(digits);
    let (first, _) = digits.split_first()?;
    let mut millis = 0;
    for at in 0..3 {
        millis = millis * 10 + i64::from(digits.get(at).map_or(0, |digit| digit - b'0'));
    }
    debug_assert!(first.is_ascii_digit());
    Some((millis, rest))
}

/// Seconds by which its clock is ahead of UTC.
fn offset(text: &[u8]) -> Option<i64> {
    let (sign, rest) = match text {
        [] | b"Z" | b"z" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, rest) = number(rest, 2)?;
    let minutes = match rest.strip_prefix(b":").unwrap_or(rest) {
        [] => 0,
        rest => number(rest, 2)?.0,
    };
    Some(sign * (hours * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_of_all_forms_are_read() {
        let at = Unix(1_795_962_474_983);
        for text in [
            "2026-11-29T14:27:54.983131+00:00",
            "2026-11-29T14:27:54.983Z",
            "2026-11-29 14:27:54.983",
            "2026-11-29T15:27:54.983131+01:00",
            "2026-11-29T04:57:54,983131-0930",
        ] {
            assert_eq!(read(text), Some(at), "{text}");
        }
        assert_eq!(read("2026-11-29T14:27"), Some(Unix(1_795_962_420_000)));
        assert_eq!(read("1970-01-01"), Some(Unix(0)));
        for odd in [
            "",
            "soon",
            "2026-13-01",
            "2026-11-29T",
            "2026-11-29T14:27:54.",
            "2026-11-29T99:00",
            "2026-11-29T14:27:54+x",
        ] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(millis in 0i64..4_107_542_399_999) {
            prop_assert_eq!(read(&Unix(millis).to_string()), Some(Unix(millis)));
        }

        #[test]
        fn any_text_is_read_or_not(text in ".{0,40}") {
            let _ = read(&text);
        }
    }
}
