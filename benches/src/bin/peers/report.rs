// SPDX-License-Identifier: Apache-2.0
//! Printing of figures, one line each: `name value unit`, then the spread.

use crate::probe::{Distance, Measurement};

/// Prints the median of `values`, their minimum and their maximum.
pub(crate) fn figure(name: &str, values: &mut [f64], unit: &str) {
    values.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (values.first(), values.last()) else {
        return;
    };
    let middle = median(values);
    let count = values.len();
    println!("{name} {middle:.4} {unit} min={least:.4} max={most:.4} n={count}");
}

fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[half]
    } else {
        f64::midpoint(sorted[half - 1], sorted[half])
    }
}

/// Results of windows of two cores, by the distance of the cores.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    near: Vec<f64>,
    far: Vec<f64>,
    remote: Vec<f64>,
    thrown_away: usize,
}

impl Windows {
    /// Adds the result of the window between two measurements of the distance.
    pub(crate) fn add(&mut self, before: &Measurement, after: &Measurement, value: f64) {
        match before.window(after) {
            Some(Distance::Near) => self.near.push(value),
            Some(Distance::Far) => self.far.push(value),
            Some(Distance::Remote) => self.remote.push(value),
            None => self.thrown_away += 1,
        }
    }

    /// Number of windows that counted while the cores were near.
    pub(crate) fn near(&self) -> usize {
        self.near.len()
    }

    /// Prints one line for each distance that has at least three windows.
    pub(crate) fn report(mut self, name: &str, unit: &str) {
        let kinds = [
            ("near", &mut self.near),
            ("far", &mut self.far),
            ("remote", &mut self.remote),
        ];
        for (kind, values) in kinds {
            if values.len() < 3 {
                continue;
            }
            values.sort_by(f64::total_cmp);
            let count = values.len();
            println!(
                "{name}_{kind} {:.4} {unit} min={:.4} max={:.4} n={count} p10={:.4} p90={:.4} \
                 thrown_away={}",
                median(values),
                values[0],
                values[count - 1],
                values[count / 10],
                values[count * 9 / 10],
                self.thrown_away
            );
        }
    }
}
