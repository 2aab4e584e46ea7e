//! `pool status --watch`: the same picture each second, until somebody quits.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::config::ClientArgs;
use crate::fleet::snapshot::Snapshot;
use crate::sys::terminal::Keys;
use crate::text::escaped_lines;
use crate::time::Unix;

use super::report::{Out, Outcome};
use super::{client, render, screen};

/// From one picture to the next.
const PERIOD: Duration = Duration::from_secs(1);
/// Cursor to the upper left, and nothing behind it. Source: ECMA-48, CUP and ED.
const CLEAR: &str = "\x1b[H\x1b[2J";
/// What ends it: `q`, and what ^C and ^D send to a terminal that hands on all keys.
const QUITS: [u8; 4] = [b'q', b'Q', 3, 4];

/// Draws until `q` or ^C. A terminal that can't be drawn on, or none at all, gets a line a pool each second.
pub fn run(args: &ClientArgs) -> Outcome {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    let draws = std::io::stdout().is_terminal() && !is_dumb;
    let keys = draws.then(Keys::open).flatten();
    loop {
        let snapshot = client::snapshot(args)?;
        let now = Unix::now();
        match draws {
            true => draw(&snapshot, now),
            false => print_lines(&snapshot, now),
        }?;
        let key = match &keys {
            Some(keys) => keys.pressed_within(PERIOD),
            None => {
                crate::sys::terminal::pause(PERIOD);
                None
            }
        };
        if key.is_some_and(|key| QUITS.contains(&key)) {
            return Ok(());
        }
    }
}

fn draw(snapshot: &Snapshot, now: Unix) -> Outcome {
    let text = render::status(snapshot, now, screen::width());
    // What has no room below is left out, so that the head stays in sight.
    let shown: Vec<&str> = text.lines().take(screen::height().saturating_sub(2)).collect();
    let shown = escaped_lines(&shown.join("\n")).into_owned();
    let mut out = std::io::stdout().lock();
    let drawn = write!(out, "{CLEAR}{shown}\n\nq quits\n").and_then(|()| out.flush());
    drawn.map_err(super::report::unwritable)
}

/// `2026-03-01T09:05:00.250Z default: 2 workers (1..5), 1 busy, utilization 0.62, 12 waiting, 10234 done, 3 failed`
fn print_lines(snapshot: &Snapshot, now: Unix) -> Outcome {
    let mut out = Out::new();
    for (name, pool) in &snapshot.pools {
        let utilization = render::share(pool.utilization);
        out.line(format!(
            "{now} {name}: {} workers ({}..{}), {} busy, utilization {utilization}, {} waiting, {} done, {} failed",
            pool.workers, pool.min, pool.max, pool.busy, pool.waiting, pool.done, pool.failed
        ))?;
    }
    out.flush()
}
