// SPDX-License-Identifier: Apache-2.0
//! Output of answers: tables for people, with colours on a terminal only, or JSON.

use std::io::{self, IsTerminal, Write};

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table};
use serde::Serialize;

/// Style of tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    colours: bool,
}

/// Standard output.
pub(super) struct Output {
    json: bool,
    style: Style,
}

impl Output {
    pub(super) fn new(json: bool) -> Output {
        let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Output {
            json,
            style: Style { colours },
        }
    }

    /// Whether answers are JSON.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// Whether somebody looks at a terminal.
    pub(super) fn terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Shows an answer: as JSON, or as `table` makes it.
    pub(super) fn show<T: Serialize + ?Sized>(
        &mut self,
        answer: &T,
        table: impl FnOnce(&T, Style) -> String,
    ) -> io::Result<()> {
        if self.json {
            let mut text = serde_json::to_string_pretty(answer)?;
            text.push('\n');
            return self.write(&text);
        }
        self.write(&table(answer, self.style))
    }

    /// Shows an answer on one line of JSON.
    pub(super) fn json_line<T: Serialize>(&mut self, answer: &T) -> io::Result<()> {
        let mut text = serde_json::to_string(answer)?;
        text.push('\n');
        self.write(&text)
    }

    /// Writes text as it is.
    pub(super) fn write(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Returns the style of tables on this output.
    pub(super) fn style(&self) -> Style {
        self.style
    }
}

impl Style {
    /// Without colours, for tests.
    #[cfg(test)]
    pub(super) fn plain() -> Style {
        Style { colours: false }
    }

    /// A table without lines: columns, and a heading where there is one.
    pub(super) fn table(self, heading: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.force_no_tty();
        if self.colours {
            table.enforce_styling();
        }
        if !heading.is_empty() {
            table.set_header(heading.iter().map(|text| self.bold(text)));
        }
        table
    }

    pub(super) fn bold(self, text: &str) -> Cell {
        let cell = Cell::new(text);
        if self.colours {
            cell.add_attribute(Attribute::Bold)
        } else {
            cell
        }
    }

    pub(super) fn good(self, text: impl ToString) -> Cell {
        self.coloured(text, Color::Green)
    }

    pub(super) fn bad(self, text: impl ToString) -> Cell {
        self.coloured(text, Color::Red)
    }

    pub(super) fn number(self, text: impl ToString) -> Cell {
        Cell::new(text).set_alignment(CellAlignment::Right)
    }

    fn coloured(self, text: impl ToString, colour: Color) -> Cell {
        let cell = Cell::new(text);
        if self.colours { cell.fg(colour) } else { cell }
    }
}

/// A table's text: two blanks between columns, none at the ends of lines.
pub(super) fn render(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
