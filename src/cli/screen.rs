//! Where a verb prints to: how much room there is.

use std::num::NonZeroUsize;

use terminal_size::{Height, Width, terminal_size_of};

/// Columns of a picture that goes to a file or a pipe.
const PICTURE: usize = 80;

/// Lines of a terminal that does not know its size.
const HEIGHT: usize = 24;

/// Characters of a line on standard output: as `COLUMNS` says, else as many as the terminal has. A file or a pipe takes any
/// number: what searches it finds each word whole.
pub fn width() -> usize {
    known_width().unwrap_or(usize::MAX)
}

/// Columns of a picture on standard output.
pub fn picture_width() -> usize {
    known_width().unwrap_or(PICTURE)
}

fn known_width() -> Option<usize> {
    let said = std::env::var("COLUMNS").ok();
    said.as_deref().and_then(columns).or_else(|| {
        let (Width(width), _) = terminal_size_of(std::io::stdout())?;
        // A terminal may not know its size.
        Some(if width > 0 { usize::from(width) } else { PICTURE })
    })
}

/// What the variable `COLUMNS` says, if it is a number of columns.
fn columns(said: &str) -> Option<usize> {
    said.trim().parse::<NonZeroUsize>().ok().map(NonZeroUsize::get)
}

/// Lines that fit on the terminal of standard output.
pub fn height() -> usize {
    match terminal_size_of(std::io::stdout()) {
        Some((_, Height(height))) if height > 0 => usize::from(height),
        _ => HEIGHT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_says_how_many_columns_there_are() {
        assert_eq!((columns("120"), columns(" 40 ")), (Some(120), Some(40)));
        for none in ["", "0", "-1", "wide", "8.5"] {
            assert_eq!(columns(none), None, "{none}");
        }
    }
}
