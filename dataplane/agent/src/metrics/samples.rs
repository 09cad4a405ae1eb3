// SPDX-License-Identifier: Apache-2.0
//! Samples of one scrape, and their encoding.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::family::{Family, Kind};

/// Longest value of a label in characters, which is that of a pod's name.
const MAX_VALUE: usize = 253;

/// Value of a sample.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Counter, or a gauge that is a whole number.
    Whole(u64),
    /// Any other gauge.
    Real(f64),
    /// Histogram.
    Histogram(Histogram),
}

/// Counts of a histogram.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Histogram {
    /// Sum of the values.
    pub(super) sum: f64,
    /// Number of the values.
    pub(super) count: u64,
    /// Upper bound of each bucket, and the number of values in it alone.
    pub(super) buckets: Vec<(f64, u64)>,
}

/// Samples by family and labels. Two samples with the same labels are one, their sum: two attachments of one pod's name
/// exist while a sandbox is replaced, and two rules may have one name.
#[derive(Debug, Default)]
pub(super) struct Samples(BTreeMap<(&'static str, &'static str), OfFamily>);

#[derive(Debug)]
struct OfFamily {
    family: &'static Family,
    values: BTreeMap<Vec<String>, Value>,
}

impl Samples {
    /// Adds a whole number.
    pub(super) fn add(&mut self, family: &'static Family, labels: &[&str], value: u64) {
        self.value(family, labels, Value::Whole(value));
    }

    /// Adds any number.
    pub(super) fn real(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        self.value(family, labels, Value::Real(value));
    }

    /// Adds a histogram.
    pub(super) fn histogram(&mut self, family: &'static Family, labels: &[&str], value: Histogram) {
        self.value(family, labels, Value::Histogram(value));
    }

    fn value(&mut self, family: &'static Family, labels: &[&str], value: Value) {
        debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
        let labels = labels
            .iter()
            .map(|label| label.chars().take(MAX_VALUE).collect())
            .collect();
        let key = (family.name, family.unit);
        let entry = self.0.entry(key).or_insert_with(|| OfFamily {
            family,
            values: BTreeMap::new(),
        });
        match (entry.values.get_mut(&labels), value) {
            (Some(Value::Whole(sum)), Value::Whole(more)) if family.kind != Kind::Info => {
                *sum = sum.saturating_add(more);
            }
            (Some(Value::Real(sum)), Value::Real(more)) => *sum += more,
            (Some(_), _) => {}
            (None, value) => {
                entry.values.insert(labels, value);
            }
        }
    }

    /// Families that have samples.
    #[cfg(test)]
    pub(super) fn families(&self) -> Vec<&'static Family> {
        self.0.values().map(|of| of.family).collect()
    }
}

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for OfFamily { family, values } in self.0.values() {
            let unit = (!family.unit.is_empty()).then(|| Unit::Other(family.unit.to_owned()));
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Info => MetricType::Info,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut encoder =
                encoder.encode_descriptor(family.name, family.help, unit.as_ref(), kind)?;
            for (labels, value) in values {
                let names = family.labels.iter().copied();
                let labels: Vec<(&str, &str)> =
                    names.zip(labels.iter().map(String::as_str)).collect();
                match family.kind {
                    Kind::Info => encoder.encode_info(&labels)?,
                    _ => one(family.kind, value, encoder.encode_family(&labels)?)?,
                }
            }
        }
        Ok(())
    }
}

fn one(kind: Kind, value: &Value, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
    match (kind, value) {
        (Kind::Counter, Value::Whole(value)) => {
            encoder.encode_counter::<NoLabelSet, u64, f64>(value, None)
        }
        (Kind::Histogram, Value::Histogram(of)) => {
            encoder.encode_histogram::<NoLabelSet>(of.sum, of.count, &of.buckets, None)
        }
        (_, Value::Whole(value)) => encoder.encode_gauge(value),
        (_, Value::Real(value)) => encoder.encode_gauge(value),
        (_, Value::Histogram(_)) => Err(fmt::Error),
    }
}
