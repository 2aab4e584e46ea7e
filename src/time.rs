//! Two clocks as two types: [`Mono`] to measure, [`Unix`] to record.
//!
//! Nothing else in the crate reads a clock; `clippy.toml` bans the standard ones. Pure modules
//! take the time as an argument.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An instant of `CLOCK_MONOTONIC`, in nanoseconds since boot.
///
/// The clock is the same in every process of a host, so a worker's stamps and the supervisor's
/// can be compared. It is meaningless on another host and after a reboot: never store it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mono(pub u64);

impl Mono {
    /// Reads the clock.
    pub fn now() -> Self {
        let at = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
            .expect("CLOCK_MONOTONIC exists on every Linux");
        let at = Duration::from(at);
        Mono(u64::try_from(at.as_nanos()).expect("584 years of uptime"))
    }

    /// Time from `earlier` to `self`; zero when `earlier` is the later one.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// `self - by`, not below the clock's zero.
    pub fn saturating_sub(self, by: Duration) -> Mono {
        Mono(self.0.saturating_sub(nanos(by)))
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;
    fn add(self, by: Duration) -> Mono {
        Mono(self.0.saturating_add(nanos(by)))
    }
}

impl Sub<Mono> for Mono {
    type Output = Duration;
    fn sub(self, earlier: Mono) -> Duration {
        self.since(earlier)
    }
}

/// A point of UTC, in milliseconds since 1970-01-01T00:00:00Z: what brokers and logs record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Unix(pub i64);

impl Unix {
    /// Reads the clock.
    #[allow(clippy::disallowed_methods)] // the one place that may
    pub fn now() -> Self {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Unix(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Time from `earlier` to `self`; zero when `earlier` is the later one.
    pub fn since(self, earlier: Unix) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// So long before `self`.
    pub fn before(self, by: Duration) -> Unix {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        Unix(self.0.saturating_sub(millis))
    }
}

/// RFC 3339 in UTC with milliseconds: `2026-03-01T09:05:00.250Z`.
impl fmt::Display for Unix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, millis) = (self.0.div_euclid(86_400_000), self.0.rem_euclid(86_400_000));
        let (year, month, day) = civil_from_days(days);
        let (seconds, millis) = (millis / 1000, millis % 1000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        )
    }
}

/// Year, month and day of the Gregorian calendar, so many days after 1970-01-01.
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468; // since 0000-03-01: the leap day ends the year
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// Reads a date with a time, as [`Unix`] prints it: `2026-03-01T09:05:00.250Z`. A blank may stand for the `T`, fraction and `Z`
/// may be left out, and the time is UTC in any case. Digits beyond milliseconds are cut off.
pub fn parse_timestamp(text: &str) -> Option<Unix> {
    let (date, time) = text.trim().split_once(['T', ' '])?;
    let numbers = |text: &str, between: char| -> Option<[i64; 3]> {
        let numbers: Option<Vec<i64>> = text.split(between).map(|part| part.parse().ok()).collect();
        numbers?.try_into().ok()
    };
    let (time, fraction) = time
        .trim_end_matches('Z')
        .split_once('.')
        .unwrap_or((time.trim_end_matches('Z'), ""));
    let ([year, month, day], [hour, minute, second]) = (numbers(date, '-')?, numbers(time, ':')?);
    let is_time = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..61).contains(&second);
    let is_fraction = fraction.chars().all(|digit| digit.is_ascii_digit());
    if !is_time || !is_fraction || !(1..=9999).contains(&year) {
        return None;
    }
    let days = days_from_civil(year, month, day);
    if civil_from_days(days) != (year, month, day) {
        return None;
    }
    let millis: i64 = format!("{fraction:0<3.3}").parse().ok()?;
    Some(Unix(
        days * 86_400_000 + (hour * 3600 + minute * 60 + second) * 1000 + millis,
    ))
}

/// Days from 1970-01-01 to a day of the Gregorian calendar.
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

impl Add<Duration> for Unix {
    type Output = Unix;
    fn add(self, by: Duration) -> Unix {
        Unix(
            self.0
                .saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)),
        )
    }
}

/// Both clocks at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// To measure.
    pub mono: Mono,
    /// To record.
    pub unix: Unix,
}

impl Now {
    /// Reads both clocks; the supervisor's loop does it once a turn and passes them on.
    pub fn read() -> Self {
        Now {
            mono: Mono::now(),
            unix: Unix::now(),
        }
    }
}

fn nanos(of: Duration) -> u64 {
    u64::try_from(of.as_nanos()).unwrap_or(u64::MAX)
}

const NO_DURATION: &str =
    "expected a duration such as `500ms`, `5s`, `2m`, `1h`, `1m30s` or a number of seconds";

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{NO_DURATION}")]
pub struct DurationError;

/// Reads a length of time as [`parse_duration`] does, and refuses none at all.
pub fn parse_some_time(text: &str) -> Result<Duration, &'static str> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err("expected more than no time"),
        Ok(some) => Ok(some),
        Err(DurationError) => Err(NO_DURATION),
    }
}

/// Reads a duration as people write it: `500ms`, `5s`, `2m`, `1h30m`, `7d`; a bare number
/// (`5`, `0.5`) is seconds.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return seconds_to_duration(seconds);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let unit_at = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .ok_or(DurationError)?;
        let number: f64 = rest[..unit_at].parse().map_err(|_| DurationError)?;
        rest = &rest[unit_at..];
        let unit_end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let scale = match rest[..unit_end].trim() {
            "ms" => 0.001,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return Err(DurationError),
        };
        total = total
            .checked_add(seconds_to_duration(number * scale)?)
            .ok_or(DurationError)?;
        rest = &rest[unit_end..];
    }
    if text.is_empty() {
        Err(DurationError)
    } else {
        Ok(total)
    }
}

/// Seconds as a duration, when they are one: finite, not negative, at most ten thousand years.
pub fn seconds_to_duration(seconds: f64) -> Result<Duration, DurationError> {
    if !(0.0..=3.2e11).contains(&seconds) {
        return Err(DurationError);
    }
    // Nanosecond noise of the binary fraction (0.1 s) would show up when printed again.
    Ok(Duration::from_micros((seconds * 1e6).round() as u64))
}

/// A duration as [`parse_duration`] reads it: `30s`, `1m30s`, `250ms`.
pub struct Human(pub Duration);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0s");
        }
        if millis < 1000 {
            return write!(f, "{millis}ms");
        }
        let mut rest = millis;
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)] {
            if rest >= size {
                write!(f, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        match (rest / 1000, rest % 1000) {
            (0, 0) => Ok(()),
            (seconds, 0) => write!(f, "{seconds}s"),
            (0, millis) => write!(f, "{millis}ms"),
            (seconds, millis) => write!(f, "{seconds}s{millis}ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bare_number_is_seconds() {
        assert_eq!(parse_duration("5"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("0.5"), Ok(Duration::from_millis(500)));
    }

    #[test]
    fn no_time_at_all_is_refused_where_it_means_nothing() {
        assert_eq!(parse_some_time("1ms"), Ok(Duration::from_millis(1)));
        assert_eq!(parse_some_time("0s"), Err("expected more than no time"));
        assert_eq!(parse_some_time("soon"), Err(NO_DURATION));
    }

    #[test]
    fn units_add_up() {
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "s", "5x", "-1s", "-1", "1s5", "nan", "inf", "1e99"] {
            assert_eq!(parse_duration(text), Err(DurationError), "{text}");
        }
    }

    #[test]
    fn a_unix_time_prints_as_the_calendar_says() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_772_355_900_250, "2026-03-01T09:05:00.250Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Unix(millis).to_string(), text);
            assert_eq!(parse_timestamp(text), Some(Unix(millis)));
        }
        assert_eq!(parse_timestamp("1970-01-01 00:00:01.5"), Some(Unix(1500)));
        assert_eq!(parse_timestamp("1970-01-01 00:00:01"), Some(Unix(1000)));
        for text in [
            "",
            "2026-02-29 00:00:00",
            "2026-13-01 00:00:00",
            "2026-01-01",
            "2026-01-01 24:00:00",
            "2026-01-01 1:2",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(millis in 0u64..10_000_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&Human(duration).to_string()), Ok(duration));
        }
    }
}
