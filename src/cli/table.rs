//! Columns of text.

use crate::text::escaped;

/// Characters of a cell: the longest id of a job fits, a name that would fill the screen does not.
const CELL_MAX: usize = 255;

/// Columns of text, as wide as their widest cell, two spaces apart.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
    /// Columns whose cells stand at their right edge: numbers.
    right: Vec<bool>,
}

impl Table {
    /// A table with these headings; one that begins with `>` stands, with its column, at the right.
    pub fn new(headings: &[&str]) -> Self {
        let right = headings.iter().map(|heading| heading.starts_with('>')).collect();
        let heading = headings
            .iter()
            .map(|heading| heading.trim_start_matches('>').to_owned())
            .collect();
        Table {
            rows: vec![heading],
            right,
        }
    }

    /// Adds a row; one cell a heading. What would steer a terminal, or begin another row, is escaped; what is far too
    /// long is cut.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().map(|cell| shortened(&escaped(&cell), CELL_MAX));
        self.rows.push(cells.collect());
    }

    /// The whole table, each line ended.
    pub fn print(&self) -> String {
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&self.right) {
                let padding = " ".repeat(width - cell.chars().count());
                let (before, after) = if *right {
                    (padding.as_str(), "")
                } else {
                    ("", padding.as_str())
                };
                line.extend([before, cell, after, "  "]);
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
    }
}
