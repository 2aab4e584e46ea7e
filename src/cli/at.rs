//! Times of the calendar: as they are typed, and as they are shown.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

use crate::policy::schedule::instant;
use crate::policy::zone::Zone;
use crate::time::Unix;

const EXPECTED: &str = "expected a time such as `2026-12-01T09:00:00Z`, `2026-12-01T09:00+01:00`, `2026-12-01 09:00` (in the \
                        time zone of this system) or `2026-12-01 09:00 Europe/Berlin`";

/// Reads a time: RFC 3339 with an offset, or a date and a time of day in the zone that is named behind it, else in that of the
/// system. One that spring skips is the first instant after it, one that comes twice in autumn the first of the two.
pub fn parse(text: &str) -> Result<Unix, String> {
    parse_in(text, TimeZone::system)
}

fn parse_in(text: &str, system: impl FnOnce() -> TimeZone) -> Result<Unix, String> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Unix(at.as_millisecond()));
    }
    let (wall, zone) = match text.rsplit_once(' ') {
        Some((wall, name)) if name.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            let zone =
                Zone::named(name).ok_or_else(|| format!("there is no time zone {name:?}; {EXPECTED}"))?;
            (wall.trim_end(), zone.rules)
        }
        _ => (text, system()),
    };
    // A date alone would be midnight, which nobody means.
    let is_date = wall.len() <= "2026-12-01".len();
    let wall: DateTime = wall.parse().ok().filter(|_| !is_date).ok_or(EXPECTED)?;
    let at = instant(wall, &zone).ok_or(EXPECTED)?;
    Ok(Unix(at.as_millisecond()))
}

/// A time in a zone, to the second, with its offset: `2026-12-01 09:00:00 +01:00`.
pub fn shown(at: Unix, zone: &TimeZone) -> String {
    match Timestamp::from_millisecond(at.0) {
        Ok(instant) => ZonedDateTime::new(instant, zone.clone())
            .strftime("%Y-%m-%d %H:%M:%S %:z")
            .to_string(),
        Err(_) => at.to_string(),
    }
}

/// A time in a zone in another format, and its offset, as short as it can be: `12-01 09:00 +01`, `12-01 08:00 UTC`.
pub fn formatted(at: Unix, zone: &TimeZone, format: &str) -> String {
    let Ok(instant) = Timestamp::from_millisecond(at.0) else {
        return at.to_string();
    };
    let time = ZonedDateTime::new(instant, zone.clone());
    let offset = if time.offset().is_zero() { "UTC" } else { "%:::z" };
    time.strftime(&format!("{format} {offset}")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        let berlin = || Zone::named("Europe/Berlin").unwrap().rules;
        parse_in(text, berlin).ok().map(|at| at.to_string())
    }

    #[test]
    fn a_time_has_an_offset_a_zone_or_that_of_the_system() {
        for (text, expected) in [
            ("2026-12-01T09:00:00Z", "2026-12-01T09:00:00.000Z"),
            ("2026-12-01T09:00:00.25+01:00", "2026-12-01T08:00:00.250Z"),
            ("2026-12-01 09:00", "2026-12-01T08:00:00.000Z"),
            ("2026-12-01T09:00:30", "2026-12-01T08:00:30.000Z"),
            ("2026-12-01 09:00 America/New_York", "2026-12-01T14:00:00.000Z"),
            ("2026-12-01 09:00 UTC", "2026-12-01T09:00:00.000Z"),
            // Skipped in spring, and twice in autumn.
            ("2026-03-29 02:30", "2026-03-29T01:00:00.000Z"),
            ("2026-10-25 02:30", "2026-10-25T00:30:00.000Z"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "tomorrow",
            "2026-12-01",
            "09:00",
            "2026-13-01 09:00",
            "2026-12-01 09:00 Nowhere/City",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_is_shown_in_its_zone() {
        let zone = Zone::named("Europe/Berlin").unwrap();
        assert_eq!(
            shown(Unix(1_796_112_000_000), &zone.rules),
            "2026-12-01 09:00:00 +01:00"
        );
    }
}
