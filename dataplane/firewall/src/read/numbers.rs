// SPDX-License-Identifier: Apache-2.0
//! Numbers and ranges of numbers from text.

use std::ops::RangeInclusive;

use super::kind::Read;
use super::value_error::ValueError;

/// Reads `5` or `5-9`, up to `max`; `kind` names the numbers with their article.
pub(super) fn range<T: TryFrom<u64>>(
    text: &str,
    kind: &'static str,
    max: u64,
) -> Read<RangeInclusive<T>> {
    let (first, last) = ends(text);
    let in_range = |text: &str| number(text).filter(|number| *number <= max);
    let refused = || ValueError::Range {
        text: text.to_owned(),
        kind,
        max,
    };
    let (Some(first), Some(last)) = (in_range(first), in_range(last)) else {
        return Err(refused());
    };
    if last < first {
        let text = text.to_owned();
        return Err(ValueError::Backwards { text, first, last });
    }
    match (T::try_from(first), T::try_from(last)) {
        (Ok(first), Ok(last)) => Ok(first..=last),
        _ => Err(refused()),
    }
}

/// Whether a text is meant as a number or a range of them, rather than as a word.
pub(super) fn is_numeric(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit() || c == '-')
}

/// Splits `5-9` into its two ends, which are the same text if there is no hyphen.
pub(super) fn ends(text: &str) -> (&str, &str) {
    match text.split_once('-') {
        Some((first, last)) => (first.trim(), last.trim()),
        None => (text, text),
    }
}

/// Reads decimal digits, or hex digits behind `0x`; `None` for anything else and above 64 bits.
pub(super) fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // from_str_radix alone would take a sign.
    let all_digits = digits.chars().all(|c| c.is_digit(radix));
    all_digits.then(|| u64::from_str_radix(digits, radix).ok())?
}
