//! `max_workers`: a number, or so many for each processor.

use std::fmt;

use super::setting::{Arity, Base, Given, Setting, Wrong, atom_of, quoted};
use crate::sys::cpu::Processors;

const EXPECTED: &str = "a whole number, so many for each processor such as \"2/cpu\", or \"auto\"";

/// A number of workers that follows the processors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PerProcessor {
    /// Workers for each; `None`: \"auto\", which is one.
    each: Option<f64>,
    processors: Processors,
}

impl PerProcessor {
    fn parse(text: &str, processors: Processors) -> Option<Self> {
        let each = match text.trim() {
            "auto" => None,
            text => {
                let each: f64 = text.strip_suffix("/cpu")?.trim().parse().ok()?;
                Some(each).filter(|each| each.is_finite() && *each > 0.0)
            }?
            .into(),
        };
        Some(PerProcessor { each, processors })
    }

    /// How many that is; at least 1.
    fn workers(self) -> u32 {
        // `as` stops at the largest number.
        let workers = (self.each.unwrap_or(1.0) * f64::from(self.processors.usable)) as u32;
        workers.max(1)
    }

    /// As it is written.
    fn text(self) -> String {
        self.each
            .map_or_else(|| "auto".to_owned(), |each| format!("{each}/cpu"))
    }
}

impl fmt::Display for PerProcessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {}", self.text(), self.processors)
    }
}

/// Both fields of a pool that the key sets.
pub(in crate::config) struct MaxWorkers<'a>(pub &'a mut u32, pub &'a mut Option<PerProcessor>);

impl Setting for MaxWorkers<'_> {
    fn set(&mut self, given: Given<'_>, base: &Base) -> Result<(), Vec<Wrong>> {
        let atom = atom_of(given);
        let number = atom.integer().and_then(|number| u32::try_from(number).ok());
        let found = atom
            .text()
            .and_then(|text| PerProcessor::parse(text, base.processors));
        (*self.0, *self.1) = match (number, found) {
            (Some(number), _) => (number, None),
            (None, Some(found)) => (found.workers(), Some(found)),
            (None, None) => return Err(vec![atom.unlike(EXPECTED)]),
        };
        Ok(())
    }

    fn literal(&self) -> String {
        self.1
            .map_or_else(|| self.0.to_string(), |found| quoted(&found.text()))
    }

    fn arity(&self) -> Arity {
        Arity::One
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::cpu::Limit;

    fn of(text: &str, usable: u32) -> Option<(u32, String)> {
        let processors = Processors {
            usable,
            online: 8,
            limit: (usable < 8).then_some(Limit::Quota),
        };
        PerProcessor::parse(text, processors).map(|found| (found.workers(), found.to_string()))
    }

    #[test]
    fn workers_follow_the_processors() {
        let told = "2/cpu with 4 processors of 8, by the quota of the control group";
        assert_eq!(of("2/cpu", 4), Some((8, told.to_owned())));
        assert_eq!(of(" 1.5 /cpu", 3).map(|(workers, _)| workers), Some(4));
        assert_eq!(
            of("0.1/cpu", 2).map(|(workers, _)| workers),
            Some(1),
            "never none"
        );
        assert_eq!(of("auto", 8), Some((8, "auto with 8 processors".to_owned())));
    }

    #[test]
    fn nothing_else_is_taken() {
        for text in [
            "",
            "cpu",
            "/cpu",
            "2/core",
            "-1/cpu",
            "0/cpu",
            "nan/cpu",
            "automatic",
        ] {
            assert_eq!(of(text, 2), None, "{text}");
        }
    }
}
