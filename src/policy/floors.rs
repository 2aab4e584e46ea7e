//! Floors by time of day: between two times of some weekdays a pool keeps at least so many workers.
//!
//! The wall clock of the floor's time zone decides, at each instant anew. An hour that daylight saving skips is never on that
//! clock, so a floor that lies in it does not hold that day; one that begins in it begins when the clock has gone past. An
//! hour that comes twice holds twice.

use jiff::Timestamp;
use jiff::civil::Weekday;

use super::zone::Zone;
use crate::time::Unix;

/// Minutes of a day.
pub const DAY: u16 = 24 * 60;

/// One floor.
#[derive(Clone, Debug, PartialEq)]
pub struct Floor {
    /// Its first minute of the day.
    pub from: u16,
    /// The first minute after it, at most [`DAY`]. Up to `from`, it is on the next day; never equal to it.
    pub until: u16,
    /// The days on which it begins.
    pub days: Days,
    /// Workers that the pool keeps.
    pub min_workers: u32,
    /// Whose clock it goes by.
    pub zone: Zone,
}

/// Weekdays, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(u8);

impl Days {
    /// None yet.
    pub const NONE: Days = Days(0);
    /// Monday to Sunday.
    pub const ALL: Days = Days(0x7f);

    /// With this one too.
    pub fn with(self, day: Weekday) -> Days {
        Days(self.0 | 1 << day.to_monday_zero_offset())
    }

    /// Whether it is among them.
    pub fn has(self, day: Weekday) -> bool {
        self.0 & 1 << day.to_monday_zero_offset() != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Floor {
    /// Whether it holds at this instant.
    pub fn holds(&self, now: Unix) -> bool {
        let Ok(instant) = Timestamp::from_millisecond(now.0) else {
            return false; // beyond the year 9999
        };
        let clock = self.zone.rules.to_datetime(instant);
        let minute = u16::try_from(i32::from(clock.hour()) * 60 + i32::from(clock.minute())).unwrap_or(0);
        let (today, yesterday) = (clock.weekday(), clock.weekday().previous());
        if self.from < self.until {
            return self.days.has(today) && (self.from..self.until).contains(&minute);
        }
        (self.days.has(today) && minute >= self.from) || (self.days.has(yesterday) && minute < self.until)
    }
}

/// All floors of a pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Floors(pub Vec<Floor>);

impl Floors {
    /// The workers that the pool keeps at this instant: the most that one of them asks for, 0 without any.
    pub fn at(&self, now: Unix) -> u32 {
        let hold = self.0.iter().filter(|floor| floor.holds(now));
        hold.map(|floor| floor.min_workers).max().unwrap_or(0)
    }

    /// The most that it ever keeps.
    pub fn highest(&self) -> u32 {
        self.0.iter().map(|floor| floor.min_workers).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    /// A floor in this zone, from and until as `[hour, minute]`.
    fn floor(zone: &str, from: [u16; 2], until: [u16; 2], days: Days) -> Floor {
        Floor {
            from: from[0] * 60 + from[1],
            until: until[0] * 60 + until[1],
            days,
            min_workers: 4,
            zone: Zone {
                name: zone.to_owned(),
                rules: TimeZone::get(zone).unwrap(),
            },
        }
    }

    fn utc(text: &str) -> Unix {
        Unix(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    /// Minutes of 30 hours from this instant on in which it holds.
    fn minutes(floor: &Floor, from: &str) -> usize {
        let start = utc(from).0;
        let minutes = (0..30 * 60).map(|minute| Unix(start + minute * 60_000));
        minutes.filter(|now| floor.holds(*now)).count()
    }

    #[test]
    fn it_holds_from_its_first_minute_up_to_its_last() {
        let office = floor("UTC", [8, 0], [18, 0], Days::ALL);
        for (at, holds) in [
            ("2026-03-02T07:59:59Z", false),
            ("2026-03-02T08:00:00Z", true),
            ("2026-03-02T17:59:59Z", true),
            ("2026-03-02T18:00:00Z", false),
        ] {
            assert_eq!(office.holds(utc(at)), holds, "{at}");
        }
        let whole = floor("UTC", [0, 0], [24, 0], Days::ALL);
        assert_eq!(minutes(&whole, "2026-03-02T00:00:00Z"), 30 * 60);
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let night = floor("UTC", [22, 0], [2, 0], Days::NONE.with(Weekday::Friday));
        // 2026-03-06 is a Friday.
        for (at, holds) in [
            ("2026-03-06T01:00:00Z", false),
            ("2026-03-06T22:00:00Z", true),
            ("2026-03-07T01:59:00Z", true),
            ("2026-03-07T02:00:00Z", false),
            ("2026-03-07T22:00:00Z", false),
        ] {
            assert_eq!(night.holds(utc(at)), holds, "{at}");
        }
    }

    #[test]
    fn the_wall_clock_of_its_zone_decides_in_winter_and_summer() {
        let office = floor("Europe/Berlin", [8, 0], [9, 0], Days::ALL);
        assert!(office.holds(utc("2026-01-15T07:30:00Z")));
        assert!(office.holds(utc("2026-07-15T06:30:00Z")));
        assert!(!office.holds(utc("2026-07-15T07:30:00Z")));
    }

    #[test]
    fn an_hour_that_is_skipped_does_not_hold_and_one_that_comes_twice_holds_twice() {
        // Spring and autumn of three zones: each with the hour that is skipped or comes twice, local time.
        for (zone, spring, autumn, hour) in [
            ("Europe/Berlin", "2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z", 2),
            (
                "America/New_York",
                "2026-03-07T18:00:00Z",
                "2026-10-31T18:00:00Z",
                2,
            ),
            (
                "Australia/Sydney",
                "2026-10-03T04:00:00Z",
                "2026-04-04T04:00:00Z",
                2,
            ),
        ] {
            let skipped = floor(zone, [hour, 10], [hour, 40], Days::ALL);
            assert_eq!(minutes(&skipped, spring), 0, "{zone}");
            let begins_in_it = floor(zone, [hour, 30], [hour + 1, 30], Days::ALL);
            assert_eq!(minutes(&begins_in_it, spring), 30, "{zone}");
            // New York goes back at 2 o'clock to 1, the others at 3 to 2.
            let repeated = if zone == "America/New_York" { 1 } else { 2 };
            let twice = floor(zone, [repeated, 0], [repeated + 1, 0], Days::ALL);
            assert_eq!(minutes(&twice, autumn), 120, "{zone}");
        }
    }

    #[test]
    fn the_highest_of_those_that_hold_counts() {
        let low = floor("UTC", [8, 0], [18, 0], Days::ALL);
        let high = Floor {
            min_workers: 9,
            ..floor("UTC", [9, 0], [10, 0], Days::ALL)
        };
        let floors = Floors(vec![low, high]);
        assert_eq!(floors.highest(), 9);
        let at = |text| floors.at(utc(text));
        assert_eq!(at("2026-03-02T09:30:00Z"), 9);
        assert_eq!(at("2026-03-02T11:00:00Z"), 4);
        assert_eq!(at("2026-03-02T20:00:00Z"), 0);
    }
}
