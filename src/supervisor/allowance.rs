//! How much may be printed: so much in a burst, and so much a second from then on. Pure.

use crate::time::Mono;

/// Lines and bytes that may come at once, and those that are added each second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub burst: Amount,
    pub each_second: Amount,
}

/// So many lines of so many bytes in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub lines: u64,
    pub bytes: u64,
}

/// What is left of a rate: a token bucket of lines, and one of bytes.
#[derive(Debug)]
pub(super) struct Allowance {
    rate: Rate,
    lines: f64,
    bytes: f64,
    at: Mono,
}

impl Allowance {
    /// A whole burst.
    pub fn new(rate: Rate, now: Mono) -> Self {
        Allowance {
            rate,
            lines: rate.burst.lines as f64,
            bytes: rate.burst.bytes as f64,
            at: now,
        }
    }

    /// Adds what is missing to so much.
    pub fn leave_at_least(&mut self, amount: Amount) {
        self.lines = self.lines.max(amount.lines as f64);
        self.bytes = self.bytes.max(amount.bytes as f64);
    }

    /// Whether one line of `len` bytes may be printed now; it is counted if so.
    pub fn take(&mut self, len: usize, now: Mono) -> bool {
        let seconds = now.since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let refilled =
            |left: f64, each_second: u64, burst: u64| (left + seconds * each_second as f64).min(burst as f64);
        let Rate { burst, each_second } = self.rate;
        self.lines = refilled(self.lines, each_second.lines, burst.lines);
        self.bytes = refilled(self.bytes, each_second.bytes, burst.bytes);
        let may = self.lines >= 1.0 && self.bytes >= len as f64;
        if may {
            self.lines -= 1.0;
            self.bytes -= len as f64;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        burst: Amount {
            lines: 10,
            bytes: 100,
        },
        each_second: Amount { lines: 2, bytes: 50 },
    };

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    fn taken(allowance: &mut Allowance, len: usize, now: Mono) -> usize {
        (0..1000).take_while(|_| allowance.take(len, now)).count()
    }

    #[test]
    fn a_burst_is_bounded_by_lines_and_by_bytes() {
        assert_eq!(taken(&mut Allowance::new(RATE, at(0)), 1, at(0)), 10);
        assert_eq!(taken(&mut Allowance::new(RATE, at(0)), 30, at(0)), 3);
    }

    #[test]
    fn it_grows_with_time_and_never_above_a_burst() {
        let mut allowance = Allowance::new(RATE, at(0));
        taken(&mut allowance, 0, at(0));
        assert_eq!(taken(&mut allowance, 0, at(400)), 0);
        assert_eq!(taken(&mut allowance, 0, at(1000)), 2);
        assert_eq!(taken(&mut allowance, 0, at(100_000)), 10);
    }
}
