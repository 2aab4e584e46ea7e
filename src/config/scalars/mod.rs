//! The types that keys may have: how each reads and prints.

mod floors;
pub(super) mod max_workers;
mod permits;
pub(super) mod raw;
mod schedule;
pub(super) mod setting;
mod size;

use core::net::SocketAddr;
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::raw::Value;
use self::setting::{Arity, Atom, Base, Expected, Scalar, quoted};
use self::size::SIZE_EXPECTED;
use super::url::{BROKER_EXPECTED, BrokerUrl, without_secrets};
use super::values::{History, Immortal, Isolation, LogFormat, Protocol, RuntimeKind, TaskInput, TaskOutput};
use crate::job::{QueueName, QueueOrder};
use crate::policy::memory::MemoryLimit;
use crate::policy::prefetch::Prefetch;
use crate::policy::scaling::{Policy as ScalingPolicy, Threshold};
use crate::time::{Human, parse_duration, seconds_to_duration};

pub use max_workers::PerProcessor;
pub use size::{Size, parse_size};

impl Scalar for u32 {
    fn read(atom: Atom<'_>, _: &Base) -> Result<Self, Expected> {
        atom.integer()
            .and_then(|number| u32::try_from(number).ok())
            .ok_or("a whole number, 0 or more".into())
    }
    fn print(&self) -> String {
        self.to_string()
    }
}

/// A ratio; where it must lie is a rule of its key.
impl Scalar for bool {
    const ARITY: Arity = Arity::Switch;
    fn read(atom: Atom<'_>, _: &Base) -> Result<Self, Expected> {
        match atom {
            Atom::Toml(Value::Boolean(yes)) => Ok(*yes),
            Atom::Word("true" | "yes" | "on" | "1") => Ok(true),
            Atom::Word("false" | "no" | "off" | "0") => Ok(false),
            _ => Err("true or false".into()),
        }
    }
    fn print(&self) -> String {
        self.to_string()
    }
}

impl Scalar for SocketAddr {
    fn read(atom: Atom<'_>, _: &Base) -> Result<Self, Expected> {
        let address = atom.text().and_then(|text| text.trim().parse().ok());
        address.ok_or("an IP address and a port such as `127.0.0.1:9464` or `[::1]:9464`".into())
    }
    fn print(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Scalar for Duration {
    fn read(atom: Atom<'_>, _: &Base) -> Result<Self, Expected> {
        let duration = match (atom.text(), atom.number()) {
            (Some(text), _) => parse_duration(text).ok(),
            (None, Some(seconds)) => seconds_to_duration(seconds).ok(),
            (None, None) => None,
        };
        duration.ok_or("a duration such as `500ms`, `5s`, `1m30s`, `1h`, or a number of seconds".into())
    }
    fn print(&self) -> String {
        if self.subsec_nanos().is_multiple_of(1_000_000) {
            quoted(&Human(*self).to_string())
        } else {
            format!("{:?}", self.as_secs_f64())
        }
    }
}

fn read_size(atom: Atom<'_>) -> Option<u64> {
    match atom.text() {
        Some(text) => parse_size(text),
        None => atom.integer().and_then(|bytes| u64::try_from(bytes).ok()),
    }
}

fn print_size(bytes: u64) -> String {
    match Size(bytes).to_string() {
        plain if plain.bytes().all(|c| c.is_ascii_digit()) => plain,
        with_unit => quoted(&with_unit),
    }
}

/// A size in bytes.
impl Scalar for u64 {
    fn read(atom: Atom<'_>, _: &Base) -> Result<Self, Expected> {
        read_size(atom).ok_or(SIZE_EXPECTED.into())
    }
    fn print(&self) -> String {
        print_size(*self)
    }
}

/// A size in bytes, of something that is held in memory.
impl Scalar for usize {
    fn read(atom: Atom<'_>, _: &Base) -> Result<Self, Expected> {
        read_size(atom)
            .and_then(|bytes| usize::try_from(bytes).ok())
            .ok_or(SIZE_EXPECTED.into())
    }
    fn print(&self) -> String {
        print_size(*self as u64)
    }
}

impl Scalar for MemoryLimit {
    fn read(atom: Atom<'_>, _: &Base) -> Result<Self, Expected> {
        let share = |text: &str| {
            let percent: f64 = text.trim().strip_suffix('%')?.trim().parse().ok()?;
            (percent > 0.0 && percent <= 100.0).then_some(MemoryLimit::Share(percent / 100.0))
        };
        let limit = atom
            .text()
            .and_then(share)
            .or_else(|| read_size(atom).map(MemoryLimit::Bytes));
        limit.ok_or("a size such as `2GiB`, a share of the memory such as `50%`,".into())
    }
    fn print(&self) -> String {
        match self {
            MemoryLimit::Bytes(bytes) => print_size(*bytes),
            MemoryLimit::Share(share) => quoted(&format!("{}%", share * 100.0)),
        }
    }
}

impl Scalar for Immortal {
    fn read(atom: Atom<'_>, base: &Base) -> Result<Self, Expected> {
        if atom.text() == Some("auto") {
            return Ok(Immortal::Auto);
        }
        match bool::read(atom, base) {
            Ok(true) => Ok(Immortal::Always),
            Ok(false) => Ok(Immortal::Never),
            Err(_) => Err("\"auto\", true or false".into()),
        }
    }
    fn print(&self) -> String {
        match self {
            Immortal::Auto => quoted("auto"),
            Immortal::Always => true.print(),
            Immortal::Never => false.print(),
        }
    }
}

impl Scalar for Prefetch {
    fn read(atom: Atom<'_>, _: &Base) -> Result<Self, Expected> {
        match (atom.text(), atom.integer().map(u32::try_from)) {
            (Some("auto"), _) => Ok(Prefetch::Auto),
            (_, Some(Ok(jobs))) => Ok(Prefetch::Fixed(jobs)),
            _ => Err("\"auto\" or a whole number of jobs, 0 or more".into()),
        }
    }
    fn print(&self) -> String {
        match self {
            Prefetch::Auto => quoted("auto"),
            Prefetch::Fixed(jobs) => jobs.to_string(),
        }
    }
}

impl Scalar for Threshold {
    fn read(atom: Atom<'_>, _: &Base) -> Result<Self, Expected> {
        match (atom.text(), atom.number()) {
            (Some("auto"), _) => Ok(Threshold::Auto),
            (_, Some(share)) if share.is_finite() => Ok(Threshold::Share(share)),
            _ => Err("\"auto\" or a number such as 0.5".into()),
        }
    }
    fn print(&self) -> String {
        match self {
            Threshold::Auto => quoted("auto"),
            Threshold::Share(share) => format!("{share:?}"),
        }
    }
}

impl Scalar for String {
    fn read(atom: Atom<'_>, _: &Base) -> Result<Self, Expected> {
        atom.text_for_programs("a string").map(str::to_owned)
    }
    fn print(&self) -> String {
        quoted(self)
    }
}

impl Scalar for PathBuf {
    fn read(atom: Atom<'_>, base: &Base) -> Result<Self, Expected> {
        match atom.text_for_programs("a path")? {
            "" => Err("a path".into()),
            path => Ok(base.absolute(Path::new(path))),
        }
    }
    fn print(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

/// A program: a path, or a bare name that is looked up on `PATH` when it is started.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Program(pub PathBuf);

impl Scalar for Program {
    fn read(atom: Atom<'_>, base: &Base) -> Result<Self, Expected> {
        const WHAT: &str = "a program's name or path";
        match atom.text_for_programs(WHAT)? {
            "" => Err(WHAT.into()),
            path if path.contains('/') => Ok(Program(base.absolute(Path::new(path)))),
            name => Ok(Program(PathBuf::from(name))),
        }
    }
    fn print(&self) -> String {
        self.0.print()
    }
}

impl Scalar for QueueName {
    fn read(atom: Atom<'_>, _: &Base) -> Result<Self, Expected> {
        let name = atom.text().ok_or("a queue's name")?;
        QueueName::new(name).map_err(|error| format!("a queue's name; this one {error}").into())
    }
    fn print(&self) -> String {
        quoted(self.as_str())
    }
}

impl Scalar for BrokerUrl {
    fn read(atom: Atom<'_>, base: &Base) -> Result<Self, Expected> {
        let url = atom.text().ok_or(BROKER_EXPECTED)?;
        BrokerUrl::parse(url, |path| base.absolute(path)).map_err(Cow::from)
    }
    fn print(&self) -> String {
        quoted(&self.to_string())
    }
    fn shown(text: &str) -> String {
        without_secrets(text)
    }
}

/// A type whose values are a few words.
macro_rules! words {
    ($type:ident: $($word:literal => $value:ident),+) => {
        impl Scalar for $type {
            fn read(atom: Atom<'_>, _: &Base) -> Result<Self, Expected> {
                match atom.text() {
                    $(Some($word) => Ok($type::$value),)+
                    _ => Err($crate::config::scalars::one_of(&[$($word),+])),
                }
            }
            fn print(&self) -> String {
                quoted(match self { $($type::$value => $word),+ })
            }
        }
    };
}
pub(super) use words;

impl Scalar for Protocol {
    fn read(atom: Atom<'_>, _: &Base) -> Result<Self, Expected> {
        let named = |name| Protocol::all().find(|protocol| protocol.name() == name);
        atom.text().and_then(named).ok_or_else(|| {
            let names: Vec<&str> = Protocol::all().map(Protocol::name).collect();
            one_of(&names)
        })
    }
    fn print(&self) -> String {
        quoted(self.name())
    }
}

impl Scalar for RuntimeKind {
    fn read(atom: Atom<'_>, _: &Base) -> Result<Self, Expected> {
        let names: Vec<&str> = RuntimeKind::all().map(RuntimeKind::name).collect();
        let named = |name| RuntimeKind::all().find(|kind| kind.name() == name);
        atom.text().and_then(named).ok_or_else(|| one_of(&names))
    }
    fn print(&self) -> String {
        quoted(self.name())
    }
}

words!(Isolation: "warm" => Warm, "fresh" => Fresh);
words!(QueueOrder: "strict" => Strict, "round-robin" => RoundRobin, "random" => Random);
words!(ScalingPolicy: "utilization" => Utilization, "demand" => Demand);
words!(History: "file" => File, "none" => None);
words!(TaskInput: "json" => Json, "raw" => Raw, "base64" => Base64);
words!(TaskOutput: "auto" => Auto, "text" => Text, "base64" => Base64, "file" => File);
words!(LogFormat: "text" => Text, "json" => Json);

pub(super) fn one_of(words: &[&str]) -> Expected {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone().into(),
        Some((last, first)) => format!("{} or {last}", first.join(", ")).into(),
        None => "".into(),
    }
}
