//! Time zones by name.

use jiff::tz::TimeZone;

/// A time zone with the name that it was asked for by.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    /// Such as `Europe/Berlin`.
    pub name: String,
    /// Its rules.
    pub rules: TimeZone,
}

impl Zone {
    /// The zone of this name in the IANA database; `None`: there is none.
    pub fn named(name: &str) -> Option<Self> {
        Some(Zone {
            rules: TimeZone::get(name).ok()?,
            name: name.to_owned(),
        })
    }
}

impl Default for Zone {
    /// UTC.
    fn default() -> Self {
        Zone {
            name: "UTC".to_owned(),
            rules: TimeZone::UTC,
        }
    }
}
