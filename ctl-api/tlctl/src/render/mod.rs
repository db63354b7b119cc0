//! Replies as text: pure functions, one file for each group of commands.

pub mod controllers;
pub mod exports;
pub mod objects;
pub mod operations;
pub mod preview;
pub mod program;
pub mod stages;
pub mod stats;
pub mod watch;

mod quantity;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use tieline_proto::v1::Holder;

/// Width of tables that are not asked to be wide, in characters.
const WIDTH: usize = 100;

/// A column's heading and side.
#[derive(Debug, Clone, Copy)]
enum Column {
    /// Texts.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
}

/// A table without lines: headings, then the rows, two spaces between columns.
fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|column| match column {
        Column::Left(heading) | Column::Right(heading) => Cell::new(heading),
    }));
    for row in rows {
        table.add_row(row.iter().map(|cell| Cell::new(printable(cell))));
    }
    for (index, kind) in columns.iter().enumerate() {
        if let Some(column) = table.column_mut(index) {
            column.set_padding((0, 2));
            column.set_cell_alignment(match kind {
                Column::Left(_) => CellAlignment::Left,
                Column::Right(_) => CellAlignment::Right,
            });
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A table whose lines are cut where they are wider than [`WIDTH`]: what may be
/// long comes last.
fn narrow_table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    table(columns, rows).lines().map(|line| format!("{}\n", cut(line))).collect()
}

fn cut(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}

/// Names and messages come from outside: nothing in them may move the cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A list in a cell: the first few, and how many more.
fn listed(items: impl IntoIterator<Item = impl ToString>) -> String {
    const SHOWN: usize = 4;
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.len() <= SHOWN {
        dashed(&items.join(", "))
    } else {
        format!("{}, +{}", items[..SHOWN - 1].join(", "), items.len() + 1 - SHOWN)
    }
}

/// Who holds an object, the one whose declaration is in force first.
fn holders(holders: &[Holder]) -> String {
    let one = |holder: &Holder| {
        let marks: Vec<&str> = [(holder.stale, "stale"), (holder.differs, "differs")]
            .iter()
            .filter(|m| m.0)
            .map(|m| m.1)
            .collect();
        match marks.is_empty() {
            true => holder.controller.clone(),
            false => format!("{} ({})", holder.controller, marks.join(", ")),
        }
    };
    dashed(&holders.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// A text in a cell; a dash when there is none.
fn dashed(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// A number in a cell; a dash when it is 0, which stands for none.
fn nonzero(number: u32) -> String {
    if number == 0 { "-".to_owned() } else { number.to_string() }
}

#[cfg(test)]
mod tests {
    use super::Column::Left;
    use super::*;

    #[test]
    fn tables_line_up_and_end_cleanly() {
        let text = table(
            &[Column::Left("NAME"), Column::Right("COUNT"), Column::Left("NOTE")],
            [
                vec!["a".to_owned(), "1".to_owned(), "x\x1b[2J\ny".to_owned()],
                vec!["long-name".to_owned(), "12,345".to_owned(), String::new()],
            ],
        );
        assert_eq!(
            text,
            "NAME        COUNT  NOTE\n\
             a               1  x [2J y\n\
             long-name  12,345\n"
        );
        assert_eq!(table(&[Column::Left("NAME")], []), "NAME\n");
    }

    #[test]
    fn narrow_tables_are_cut_and_say_so() {
        let row = |length: usize| vec!["a".to_owned(), "ä".repeat(length)];
        let columns = [Left("A"), Left("B")];
        let text = narrow_table(&columns, [row(WIDTH - 3), row(WIDTH - 2)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], format!("a  {}", "ä".repeat(WIDTH - 3)), "it fits");
        assert_eq!(lines[2], format!("a  {}…", "ä".repeat(WIDTH - 4)));
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(listed(Vec::<u32>::new()), "-");
        assert_eq!(listed([1, 2, 3, 4]), "1, 2, 3, 4");
        assert_eq!(listed([1, 2, 3, 4, 5]), "1, 2, 3, +2");
    }
}
