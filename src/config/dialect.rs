//! Dialects: jobs that the producers of another program write, and its command line.
//!
//! A dialect is a folder of `config/` and a line in the list below: its table of keys (a [`Section`]), its words, its
//! defaults, its checks, and what it reads of its own program's settings. Nothing else in `config/` knows one by name.

use std::ffi::OsString;

use super::keys::Section;
use super::problem::Problem;
use super::render::Explained;
use super::rules::Rules;
use super::validate::Settings;
use super::words::Word;
use super::{BrokerConfig, BrokerUrl, Config};
use crate::broker;

macro_rules! dialects {
    ($($(#[$doc:meta])* $variant:ident, $name:ident: $settings:ty;)+) => {
        /// The dialects, by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum DialectKind { $($(#[$doc])* $variant),+ }

        impl DialectKind {
            /// All of them.
            pub const ALL: &[DialectKind] = &[$(DialectKind::$variant),+];

            /// Its name: of its runtime, its protocol and its table.
            pub fn name(self) -> &'static str {
                match self { $(DialectKind::$variant => stringify!($name)),+ }
            }
        }

        /// The settings of each dialect.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Dialects { $($(#[$doc])* pub $name: $settings),+ }

        impl Dialects {
            /// The settings of one.
            pub(super) fn of(&self, kind: DialectKind) -> &dyn Dialect {
                match kind { $(DialectKind::$variant => &self.$name),+ }
            }

            /// The settings of one, to be filled.
            pub(super) fn of_mut(&mut self, kind: DialectKind) -> &mut dyn Dialect {
                match kind { $(DialectKind::$variant => &mut self.$name),+ }
            }
        }
    };
}

dialects! {
    /// Jobs of RQ, in Redis.
    Rq, rq: super::rq::RqConfig;
}

impl Dialects {
    /// The settings of all.
    pub(super) fn each(&self) -> impl Iterator<Item = &dyn Dialect> {
        DialectKind::ALL.iter().map(|kind| self.of(*kind))
    }
}

impl DialectKind {
    /// The dialect of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// Reads one environment variable.
pub(super) type Env<'e> = &'e dyn Fn(&str) -> Option<OsString>;

/// What the rest of `config/` asks of a dialect. It is its table `[NAME]`, and so walks its keys.
pub(super) trait Dialect: Section {
    /// Which it is.
    fn kind(&self) -> DialectKind;
    /// Its program's name in sentences.
    fn title(&self) -> &'static str;
    /// Above its flags in `--help`.
    fn heading(&self) -> &'static str;

    /// Flags of its own program that are no settings here.
    fn words(&self) -> &'static [Word];
    /// The letter that its own program has for one of our flags.
    fn short_of(&self, flag: &str) -> Option<char>;
    /// Our flag for a word of its command line that would read otherwise here.
    fn spelled_out(&self, word: &str) -> Option<&'static str>;
    /// Whether what the word `earlier` has set gives way to the word `later`.
    fn gives_way(&self, earlier: &str, later: &str) -> bool;
    /// Why its own program's value of one of our flags can't hold, and what to do.
    fn refused_value(&self, flag: &str, text: &str) -> Option<(&'static str, &'static str)>;
    /// Variables of its own program, each with the flag that it stands for. They hold in this dialect, below our own.
    fn variables(&self) -> &'static [(&'static str, &'static str)];
    /// What is wrong with one of them by itself.
    fn variable_problem(&self, name: &str, text: &str) -> Option<Problem>;
    /// What to say to who named a file by `--config` that can't be read.
    fn config_hint(&self) -> &'static str;

    /// Where its program looks for jobs by default, as a URL.
    fn default_broker(&self) -> &'static str;
    /// Whether its jobs can be at this place.
    fn is_spoken_at(&self, url: &BrokerUrl) -> bool;
    /// How its place is named, in an example: `--broker redis://HOST`.
    fn place(&self) -> (&'static str, &'static str);
    /// What its broker is told; `None`: it has none at this place.
    fn broker_options(&self, broker: &BrokerConfig) -> Option<broker::Options>;
    /// Keys that matter to a producer.
    fn keys_of_jobs(&self) -> &'static [&'static str];

    /// Fills in what follows from other settings, and changes their defaults where its runtime is in force. Its own
    /// settings are not in `config` meanwhile. `is_set` tells for the path of a key.
    fn give_way(&mut self, config: &mut Config, is_set: &dyn Fn(&str) -> bool);
    /// What its own program's settings say, by our flags; `None`: nothing.
    fn read(&self, explained: &Explained, env: Env<'_>) -> Result<Option<Settings>, Problem>;
    /// What must hold for its keys.
    fn check(&self, config: &Config, rules: &mut Rules<'_>);
}

/// Lets each dialect fill in what follows from other settings; the one in force may change their defaults.
pub(super) fn give_way(config: &mut Config, is_set: &dyn Fn(&str) -> bool) {
    let mut dialects = std::mem::take(&mut config.broker.dialects);
    for kind in DialectKind::ALL {
        dialects.of_mut(*kind).give_way(config, is_set);
    }
    config.broker.dialects = dialects;
}
