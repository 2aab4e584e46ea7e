//! A word of another program's command line. Pure.

/// A flag that a dialect's own program knows and we don't.
pub(in crate::config) struct Word {
    /// Its name without dashes; of one that has only a letter, that letter.
    pub flag: &'static str,
    /// Its letter.
    pub short: Option<char>,
    /// What its value is; empty: it has none.
    pub value: &'static str,
    /// What it means with this value.
    pub meaning: fn(&str) -> Meaning,
}

/// What a flag with this value means here.
pub(in crate::config) enum Meaning {
    /// These flags.
    Flags(Vec<(&'static str, String)>),
    /// It can't hold: why, and what to do.
    Refused(&'static str, &'static str),
    /// The other program would not take this value either: why, and what to do.
    Mistaken(&'static str, &'static str),
}

/// A word of a dialect.
pub(in crate::config) const fn word(
    flag: &'static str,
    short: Option<char>,
    value: &'static str,
    meaning: fn(&str) -> Meaning,
) -> Word {
    Word {
        flag,
        short,
        value,
        meaning,
    }
}
