//! Aligned columns, with colours that do not count as width.

use super::Tone;

/// Which side a column leans to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// One field.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: Tone::Plain }
    }

    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

/// Rows under a header.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The same without columns in which nothing stands.
    pub(crate) fn without_empty_columns(mut self) -> Self {
        for column in (0..self.columns.len()).rev() {
            if self.rows.iter().all(|row| row.get(column).is_none_or(|cell| cell.text.is_empty())) {
                self.columns.remove(column);
                self.rows.iter_mut().filter(|row| column < row.len()).for_each(|row| drop(row.remove(column)));
            }
        }
        self
    }

    /// The table as text; the last column is not padded.
    pub(crate) fn render(&self, color: bool) -> String {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let header = self.columns[column].0.chars().count();
                let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count());
                cells.fold(header, usize::max)
            })
            .collect();
        let header = self.columns.iter().map(|(name, _)| Cell::toned(*name, Tone::Dim)).collect();
        let mut text = String::new();
        for row in std::iter::once(&header).chain(&self.rows) {
            let mut line = String::new();
            for (index, cell) in row.iter().enumerate() {
                let padding = " ".repeat(widths[index].saturating_sub(cell.text.chars().count()));
                let painted = cell.tone.paint(&cell.text, color);
                let last = index + 1 == row.len();
                line += &match self.columns[index].1 {
                    Align::Left if last => painted,
                    Align::Left => painted + &padding,
                    Align::Right => padding + &painted,
                };
                if !last {
                    line += "  ";
                }
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{Align, Cell, Table, Tone};

    #[test]
    fn columns_align_with_and_without_colour() {
        let mut table = Table::new(&[("NAME", Align::Left), ("PID", Align::Right), ("WHY", Align::Left)]);
        table.row(vec![Cell::toned("smollm2", Tone::Good), Cell::new("7"), Cell::new("")]);
        table.row(vec![Cell::new("ä"), Cell::new("12345"), Cell::new("gone")]);
        let plain = table.render(false);
        assert_eq!(plain, "NAME       PID  WHY\nsmollm2      7\nä        12345  gone\n");
        let stripped = table.render(true).replace("\x1b[32m", "").replace("\x1b[2m", "").replace("\x1b[0m", "");
        let trimmed: String = stripped.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        assert_eq!(trimmed, plain);
    }
}
