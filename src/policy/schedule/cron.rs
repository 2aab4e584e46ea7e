//! Cron expressions on the wall clock of a time zone.
//!
//! The expression names times of the wall clock. Each becomes an instant:
//!
//! - A time that the clock skips in spring fires at the first instant after the gap. Several such times fire once.
//! - A time that comes twice in autumn fires the first time only. An expression whose hour begins with `*` names no time of
//!   day, so it fires in both hours: `*/15 * * * *` never pauses for longer than 15 minutes.

use std::cmp::Ordering;

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use croner::time::{CivilDate, CivilDateTime, CivilTime, CronDateTime, Resolution, Weekday};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use crate::time::Unix;

/// Times that one search looks at: two repeated hours of an expression that names each second.
const LOOKS_MAX: usize = 2 * 3600 + 1;
/// Longer than any change of a clock that comes back.
const FOLD_MAX: SignedDuration = SignedDuration::from_hours(26);
/// Changes of the clock between two times of one expression that are looked at.
const TRANSITIONS_MAX: usize = 64;

/// A checked cron expression: five fields, or six with seconds first, or a name such as `@daily`.
#[derive(Clone, Debug)]
pub struct Expression {
    text: String,
    cron: Box<Cron>,
    /// Its hour begins with `*`.
    is_periodic: bool,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Expression {
    /// Reads an expression. The error says in words what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parser = CronParser::builder()
            .seconds(Seconds::Optional)
            .year(Year::Disallowed)
            .build();
        let cron = parser.parse(text).map_err(|error| error.to_string())?;
        let fields: Vec<&str> = text.split_whitespace().collect();
        let hour = fields.len().checked_sub(4).and_then(|at| fields.get(at));
        let expression = Expression {
            is_periodic: hour.map_or_else(
                || text.trim().eq_ignore_ascii_case("@hourly"),
                |hour| hour.starts_with('*'),
            ),
            text: fields.join(" "),
            cron: Box::new(cron),
        };
        // An expression such as 30 February is well formed and never comes.
        let some_day = Unix(1_767_225_600_000); // 2026-01-01; leap years repeat within eight years
        match expression.next_after(some_day, &TimeZone::UTC) {
            Some(_) => Ok(expression),
            None => Err("no such day ever comes".to_owned()),
        }
    }

    /// Whether it has a field for seconds.
    pub fn has_seconds(&self) -> bool {
        self.text.split(' ').count() == 6
    }

    /// The expression as it was written, with single blanks.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first instant after `after` at which it fires; `None`: never again, as far as the calendar goes.
    pub fn next_after(&self, after: Unix, zone: &TimeZone) -> Option<Unix> {
        let after = Timestamp::from_millisecond(after.0).ok()?;
        let next = self.next_of_first_passes(after, zone);
        let again = self
            .is_periodic
            .then(|| self.next_of_second_passes(after, next, zone))
            .flatten();
        let first = next.into_iter().chain(again).min()?;
        Some(Unix(first.as_millisecond()))
    }

    /// The next one where a time that comes twice counts the first time only. Instants grow with the wall clock then.
    fn next_of_first_passes(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut wall = zone.to_datetime(after);
        for _ in 0..LOOKS_MAX {
            wall = self.next_on_clock(wall, false)?;
            let at = instant(wall, zone)?;
            if at > after {
                return Some(at);
            }
        }
        None
    }

    /// The next one in an hour that comes for the second time, up to `until`.
    fn next_of_second_passes(
        &self,
        after: Timestamp,
        until: Option<Timestamp>,
        zone: &TimeZone,
    ) -> Option<Timestamp> {
        let from = after.checked_sub(FOLD_MAX).ok()?;
        let before = zone.to_offset(from);
        let changes = zone.following(from).take(TRANSITIONS_MAX);
        let changes = changes.take_while(|change| until.is_none_or(|until| change.timestamp() < until));
        let mut offset = before;
        for change in changes {
            let (old, new) = (offset, change.offset());
            offset = new;
            if new.seconds() >= old.seconds() {
                continue;
            }
            // The wall clock shows the times from `start` to `end` again.
            let start = new.to_datetime(change.timestamp());
            let end = old.to_datetime(change.timestamp());
            let now = new.to_datetime(after);
            let found = if now < start {
                self.next_on_clock(start, true)
            } else {
                self.next_on_clock(now, false)
            };
            let at = found
                .filter(|wall| *wall < end)
                .and_then(|wall| new.to_timestamp(wall).ok());
            if let Some(at) = at.filter(|at| *at > after) {
                return Some(at);
            }
        }
        None
    }

    /// The next time on a wall clock that never changes.
    fn next_on_clock(&self, wall: DateTime, inclusive: bool) -> Option<DateTime> {
        let found = self.cron.find_next_occurrence(&Clock(wall), inclusive);
        found.ok().map(|Clock(wall)| wall)
    }
}

/// The instant of a time on the wall clock: the first of two; the end of the gap for one that is skipped.
pub fn instant(wall: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(wall);
    if let AmbiguousOffset::Gap { after, .. } = ambiguous.offset() {
        let before_the_gap = after.to_timestamp(wall).ok()?;
        return zone
            .following(before_the_gap)
            .next()
            .map(|change| change.timestamp());
    }
    ambiguous.earlier().ok()
}

/// A wall clock without a zone, as the search wants it.
#[derive(Clone, Copy)]
struct Clock(DateTime);

/// A field of jiff's, which is never negative here.
fn unsigned(field: i8) -> u32 {
    u32::from(field.unsigned_abs())
}

impl CronDateTime for Clock {
    fn to_civil(&self) -> CivilDateTime {
        let Clock(wall) = self;
        CivilDateTime::new(
            CivilDate::from_parts_unchecked(wall.year().into(), unsigned(wall.month()), unsigned(wall.day())),
            CivilTime::from_parts_unchecked(
                unsigned(wall.hour()),
                unsigned(wall.minute()),
                unsigned(wall.second()),
            ),
        )
    }

    fn civil_weekday(&self) -> Weekday {
        Weekday::from_days_from_sunday(unsigned(self.0.weekday().to_sunday_zero_offset()))
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let field = |number: u32| i8::try_from(number).map_err(|_| CronError::InvalidDate);
        let year = i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?;
        let wall = DateTime::new(
            year,
            field(civil.month())?,
            field(civil.day())?,
            field(civil.hour())?,
            field(civil.minute())?,
            field(civil.second())?,
            0,
        );
        wall.map(|wall| Resolution::Single(Clock(wall)))
            .map_err(|_| CronError::InvalidDate)
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        self.0
            .checked_add(SignedDuration::from_secs(seconds))
            .ok()
            .map(Clock)
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}
