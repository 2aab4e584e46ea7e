//! Dialects: jobs that the producers of another program write, and its command line.
//!
//! A dialect is a folder of `config/`, a line in the list of `values/dialects.rs` and one in [`Dialects::of`] here: its
//! table of keys (a [`Section`]), its words, its defaults, its checks, and what it reads of its own program's settings.
//! Nothing else in `config/` knows one by name.

mod line;
mod own;
mod word;

use std::ffi::OsString;

use super::explained::Explained;
use super::findings::Rules;
use super::keys::Section;
use super::problem::Problem;
use super::url::BrokerUrl;
use super::values::{BrokerConfig, Config, DialectKind, Dialects, Protocol};
use crate::broker;

pub(super) use line::{GivenLine, Line};
pub(super) use own::{OwnVariables, Said, Settings};
pub(super) use word::{Meaning, Word, word};

impl Dialects {
    /// One of them.
    pub(super) fn of(&self, kind: DialectKind) -> &dyn Dialect {
        match kind {
            DialectKind::Rq => &self.rq,
            DialectKind::Celery => &self.celery,
        }
    }

    /// One of them, to be filled.
    pub(super) fn of_mut(&mut self, kind: DialectKind) -> &mut dyn Dialect {
        match kind {
            DialectKind::Rq => &mut self.rq,
            DialectKind::Celery => &mut self.celery,
        }
    }

    /// All of them.
    pub(super) fn each(&self) -> impl Iterator<Item = &dyn Dialect> {
        DialectKind::ALL.iter().map(|kind| self.of(*kind))
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
    /// Commands of its own program that may stand behind `pool NAME`.
    fn lines(&self) -> &'static [Line];
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
    /// Whether jobs at this place, of which nothing else is known, are its.
    fn is_guessed_at(&self, url: &BrokerUrl) -> bool {
        self.is_spoken_at(url)
    }
    /// The place that its other settings name, if nobody says another.
    fn own_place(&self) -> Option<BrokerUrl> {
        None
    }
    /// Of a place that names an application, its settings name that one.
    fn be_led_by(&mut self, _url: &BrokerUrl) {}
    /// Its broker is known once the application is loaded, with the queues of pools that name none.
    fn app_names_broker(&self) -> bool {
        false
    }
    /// It is not said which application that is: what to do.
    fn misses_app(&self) -> Option<&'static str> {
        None
    }
    /// What waits in the queues is deleted when a supervisor starts.
    fn purges_at_start(&self) -> bool {
        false
    }
    /// How its place is named, in an example: `--broker redis://HOST`.
    fn place(&self) -> (&'static str, &'static str);
    /// What its broker is told; `None`: it has none at this place. `facts`: what the loaded application says about it.
    fn broker_options(&self, broker: &BrokerConfig, facts: &str) -> Option<broker::Options>;
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

/// The only protocol that can be spoken at this place, for a producer to whom nobody named a runtime or protocol.
pub(super) fn only_protocol_at(url: &BrokerUrl) -> Option<Protocol> {
    let is_guessed = |protocol: &Protocol| match protocol {
        Protocol::Embedded => is_spoken_at(*protocol, url),
        Protocol::Dialect(kind) => Dialects::default().of(*kind).is_guessed_at(url),
    };
    let mut spoken = Protocol::all().filter(is_guessed);
    let first = spoken.next()?;
    spoken.next().is_none().then_some(first)
}

/// Whether jobs of this protocol can be at this place.
pub(super) fn is_spoken_at(protocol: Protocol, url: &BrokerUrl) -> bool {
    match protocol {
        Protocol::Embedded => matches!(url, BrokerUrl::Sqlite(_) | BrokerUrl::Memory),
        Protocol::Dialect(kind) => Dialects::default().of(kind).is_spoken_at(url),
    }
}

/// Lets each dialect fill in what follows from other settings; the one in force may change their defaults.
pub(super) fn give_way(config: &mut Config, is_set: &dyn Fn(&str) -> bool) {
    let mut dialects = std::mem::take(&mut config.broker.dialects);
    for kind in DialectKind::ALL {
        dialects.of_mut(*kind).give_way(config, is_set);
    }
    config.broker.dialects = dialects;
}
