// SPDX-License-Identifier: Apache-2.0
//! Fields of an event as text: its sentence, then what it has besides, but for the identity of its attachment.

use std::fmt::{self, Debug};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

use crate::IDENTITY_FIELDS;

/// Formatter of an event's fields.
pub(crate) struct TextFields;

impl<'w> FormatFields<'w> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Line {
            writer,
            is_empty: true,
            outcome: Ok(()),
        };
        fields.record(&mut line);
        line.outcome
    }
}

struct Line<'w> {
    writer: Writer<'w>,
    is_empty: bool,
    outcome: fmt::Result,
}

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if self.outcome.is_err() || IDENTITY_FIELDS.contains(&field.name()) {
            return;
        }
        let pad = if self.is_empty { "" } else { " " };
        self.is_empty = false;
        self.outcome = match field.name() {
            "message" => write!(self.writer, "{pad}{value:?}"),
            name => write!(self.writer, "{pad}{name}={value:?}"),
        };
    }
}
