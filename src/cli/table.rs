//! Columns of text.

use crate::text::escaped;

/// Characters of a cell where not all fit: the longest id of a job does, a name that would fill the screen does not.
const CELL_MAX: usize = 255;

/// Columns between two cells of a row.
const GAP: usize = 2;

/// Characters that a column which may shrink keeps.
const SHRUNK_MIN: usize = 8;

/// Columns of text, as wide as their widest cell, two spaces apart.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
    /// Columns whose cells stand at their right edge: numbers.
    right: Vec<bool>,
    /// Columns whose cells may be cut where there is no room: names and sentences.
    shrinks: Vec<bool>,
}

impl Table {
    /// A table with these headings; one that begins with `>` stands, with its column, at the right. One that begins with
    /// `~` may be cut.
    pub fn new(headings: &[&str]) -> Self {
        let marked = |mark: char| headings.iter().map(|heading| heading.starts_with(mark)).collect();
        let heading = headings
            .iter()
            .map(|heading| heading.trim_start_matches(['>', '~']).to_owned())
            .collect();
        Table {
            rows: vec![heading],
            right: marked('>'),
            shrinks: marked('~'),
        }
    }

    /// Adds a row; one cell a heading. What would steer a terminal, or begin another row, is escaped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().map(|cell| escaped(&cell).into_owned());
        self.rows.push(cells.collect());
    }

    /// The whole table, each line ended. What is far too long is cut.
    pub fn print(&self) -> String {
        self.print_with(&self.widths(CELL_MAX))
    }

    /// The same in lines of so many characters, as far as cells may be cut. Nothing is where all fit.
    pub fn fit(&self, line: usize) -> String {
        let taken = |widths: &[usize]| widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        let whole = self.widths(usize::MAX);
        if taken(&whole) <= line {
            return self.print_with(&whole);
        }
        let mut widths = self.widths(CELL_MAX);
        let taken = taken(&widths);
        for _ in line..taken {
            // The widest gives way, so that what is short stays whole.
            let can_shrink = widths.iter_mut().zip(&self.shrinks);
            let can_shrink = can_shrink.filter(|(width, shrinks)| **shrinks && **width > SHRUNK_MIN);
            match can_shrink.max_by_key(|(width, _)| **width) {
                Some((widest, _)) => *widest -= 1,
                None => break,
            }
        }
        self.print_with(&widths)
    }

    /// Of the columns, none of which is wider than `cell_max`.
    fn widths(&self, cell_max: usize) -> Vec<usize> {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0).min(cell_max)
        };
        (0..self.right.len()).map(width).collect()
    }

    fn print_with(&self, widths: &[usize]) -> String {
        let gap = " ".repeat(GAP);
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(widths).zip(&self.right) {
                let cell = shortened(cell, *width);
                let padding = " ".repeat(width - cell.chars().count());
                let (before, after) = if *right {
                    (padding.as_str(), "")
                } else {
                    ("", padding.as_str())
                };
                line.extend([before, &cell, after, &gap]);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A text of so many characters at most.
pub fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

/// A sentence in lines of so many characters, all but the first indented; a word that is longer stays whole.
pub fn wrapped(text: &str, width: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) => lines.push(format!("  {word}")),
            None => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// The first line that says anything.
pub fn one_line(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty());
    escaped(line.unwrap_or("").trim()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_is_far_too_long_is_cut() {
        let mut table = Table::new(&["TASK", ">DONE"]);
        table.row(["a".repeat(70_000), "3".to_owned()]);
        table.row(["b".repeat(CELL_MAX), "14".to_owned()]);
        for line in table.print().lines() {
            assert_eq!(line.chars().count(), CELL_MAX + 2 + 4, "{line}");
        }
        assert!(table.print().contains(&"b".repeat(CELL_MAX)));
        assert_eq!(table.fit(CELL_MAX + 2 + 4), table.print());
    }

    #[test]
    fn nothing_is_cut_where_a_line_has_no_end() {
        let mut table = Table::new(&["JOB", "~ERROR"]);
        let error = "x".repeat(70_000);
        table.row(["0199".to_owned(), error.clone()]);
        assert_eq!(table.fit(usize::MAX), format!("JOB   ERROR\n0199  {error}\n"));
    }

    #[test]
    fn a_sentence_is_wrapped_between_words() {
        assert_eq!(wrapped("one two three four", 9), "one two\n  three\n  four");
        assert_eq!(wrapped("one two", 80), "one two");
    }

    #[test]
    fn a_table_fits_where_its_cells_may_be_cut() {
        let mut table = Table::new(&["ID", "~TASK", "~ERROR"]);
        table.row(["0199".to_owned(), "mail.send".to_owned(), "x".repeat(50)]);
        table.row(["0200".to_owned(), "web".to_owned(), "short".to_owned()]);
        let text = table.fit(40);
        let expected = "ID    TASK       ERROR\n\
                        0199  mail.send  xxxxxxxxxxxxxxxxxxxxxx…\n\
                        0200  web        short\n";
        assert_eq!(text, expected);
        assert_eq!(table.fit(200), table.print());
        let narrow = table.fit(3);
        assert!(
            narrow.contains("0199  mail.se…  xxxxxxx…"),
            "what names a job stays whole: {narrow}"
        );
    }
}
