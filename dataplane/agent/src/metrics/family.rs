// SPDX-License-Identifier: Apache-2.0
//! Metric families: what each is called, its type, unit, labels, meaning and bound. `docs/metrics.md` has the same
//! table, and a test compares the two.

/// Type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Sum that only grows, until what it counts starts anew.
    Counter,
    /// Value of the moment.
    Gauge,
    /// Facts in labels; the value is 1.
    Info,
    /// Counts by upper bound.
    Histogram,
}

impl Kind {
    /// Name of the type.
    #[cfg(test)]
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Info => "info",
            Kind::Histogram => "histogram",
        }
    }

    /// Suffix that the name of a sample has.
    #[cfg(test)]
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        }
    }
}

/// Metric family.
#[derive(Debug)]
pub(super) struct Family {
    /// Name without the unit and without the suffix of its type.
    pub(super) name: &'static str,
    /// Type.
    pub(super) kind: Kind,
    /// Unit, which the name ends in; empty: none.
    pub(super) unit: &'static str,
    /// Names of the labels.
    pub(super) labels: &'static [&'static str],
    /// Meaning, as `# HELP` has it.
    pub(super) help: &'static str,
    /// Largest number of series, as the page says it.
    #[cfg_attr(
        not(test),
        allow(dead_code, reason = "for the page, which a test compares")
    )]
    pub(super) bound: &'static str,
}

/// Defines a constant for each family, and `ALL`.
macro_rules! families {
    ($($id:ident: $kind:ident $name:literal $unit:literal [$($label:literal),*] $bound:literal $help:literal)*) => {
        $(
            pub(super) const $id: Family = Family {
                name: $name,
                kind: Kind::$kind,
                unit: $unit,
                labels: &[$($label),*],
                help: $help,
                bound: $bound,
            };
        )*

        /// Every family, in the order of the page.
        #[cfg(test)]
        pub(super) const ALL: &[&Family] = &[$(&$id),*];
    };
}
pub(super) use families;
