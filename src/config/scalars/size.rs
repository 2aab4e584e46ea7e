//! Sizes in bytes as people write them.

use std::fmt;

/// What [`parse_size`] reads, for messages.
pub const SIZE_EXPECTED: &str = "a size such as `512M`, `2GiB` or a number of bytes";

const UNITS: [(&str, u64); 13] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("kb", 1_000),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
    ("t", 1 << 40),
    ("tib", 1 << 40),
];

/// Reads a size in bytes: `4096`, `64K`, `512M`, `1.5GiB`; upper or lower case.
///
/// As in coreutils and systemd, `K`, `M`, `G`, `T` (or `KiB` …) are powers of 1024, and `KB`,
/// `MB`, `GB` powers of 1000. `None` if it is no size.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let unit_at = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = UNITS.iter().find(|(name, _)| *name == unit.trim())?.1;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale);
    }
    let bytes = number.parse::<f64>().ok()? * scale as f64;
    // Beyond 2^53 bytes (8 PiB) a fraction is not exact, and no machine has as much.
    (bytes < (1u64 << 53) as f64).then_some(bytes.round() as u64)
}

/// A size as [`parse_size`] reads it: exact, in the largest unit that divides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, scale) in [
            ("TiB", 1 << 40),
            ("GiB", 1 << 30),
            ("MiB", 1 << 20),
            ("KiB", 1u64 << 10),
        ] {
            if self.0 != 0 && self.0.is_multiple_of(scale) {
                return write!(f, "{}{unit}", self.0 / scale);
            }
        }
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn binary_and_decimal_units_differ() {
        assert_eq!(parse_size("512M"), Some(512 << 20));
        assert_eq!(parse_size("512mib"), Some(512 << 20));
        assert_eq!(parse_size("512MB"), Some(512_000_000));
        assert_eq!(parse_size("1.5 GiB"), Some(3 << 29));
        assert_eq!(parse_size("4096"), Some(4096));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "M", "-1", "1X", "1.2.3M", "99999999999T", "1e3"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(bytes: u64) {
            prop_assert_eq!(parse_size(&Size(bytes).to_string()), Some(bytes));
        }
    }
}
