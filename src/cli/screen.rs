//! The terminal that a verb prints to: how wide it is.

use terminal_size::{Height, Width, terminal_size_of};

/// Characters of a line where nobody says how many fit: in a file, in a pipe.
const WIDTH: usize = 80;

/// Lines of a terminal that does not know its size.
const HEIGHT: usize = 24;

/// Characters that fit in a line of standard output.
pub fn width() -> usize {
    match terminal_size_of(std::io::stdout()) {
        // A terminal may not know its size.
        Some((Width(width), _)) if width > 0 => usize::from(width),
        _ => WIDTH,
    }
}

/// Lines that fit on the terminal of standard output.
pub fn height() -> usize {
    match terminal_size_of(std::io::stdout()) {
        Some((_, Height(height))) if height > 0 => usize::from(height),
        _ => HEIGHT,
    }
}
