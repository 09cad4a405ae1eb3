// SPDX-License-Identifier: Apache-2.0
//! Kinds of values: how each is read, and what the grammar page and the JSON schema say of it.

use super::value_error::ValueError;
use crate::named_set::SetValues;

/// Value that was read, or the reason why the text was refused.
pub(crate) type Read<T> = Result<T, ValueError>;

/// Kind of the values of a key.
pub(crate) trait Kind {
    /// Value once read.
    type Value: Clone;

    /// Description of what is read.
    const GRAMMAR: Grammar;

    /// Reads one value.
    ///
    /// # Errors
    /// The text is not one.
    fn read(text: &str) -> Read<Self::Value>;

    /// Values of a set; `None` if the set is of another kind.
    fn of_set(_set: &SetValues) -> Option<&[Self::Value]> {
        None
    }

    /// Values that every frame with such a field has one of, for kinds that not every frame has.
    fn everything() -> Vec<Self::Value> {
        Vec::new()
    }
}

/// Description of a kind of values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grammar {
    /// Name in the plural, unique among kinds: "ports".
    pub(crate) name: &'static str,
    /// Notations, words apart.
    pub(crate) forms: &'static [Form],
    /// Words that are values.
    pub(crate) words: fn() -> Vec<Word>,
    /// Lowest and highest number that is a value by itself, if numbers are.
    pub(crate) numbers: Option<(u64, u64)>,
    /// Whether values are any text, so that one that YAML takes for a number is a value too.
    pub(crate) takes_any_scalar: bool,
    /// Key under which a named set holds such values, if one can.
    pub(crate) set: Option<&'static str>,
    /// Whether `any` may stand in place of values, and means that there is no condition.
    pub(crate) any: bool,
}

impl Grammar {
    /// Kind without values, from which others are made.
    pub(crate) const NONE: Grammar = Grammar {
        name: "",
        forms: &[],
        words: Vec::new,
        numbers: None,
        takes_any_scalar: false,
        set: None,
        any: false,
    };
}

/// Notation of a value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    /// Noun phrase: "range of ports".
    pub(crate) name: &'static str,
    /// Regular expression (ECMA-262, as in JSON schema) that every such text matches as a whole; it may
    /// match more than the reader takes.
    pub(crate) pattern: &'static str,
    /// Examples, which the reader takes.
    pub(crate) examples: &'static [&'static str],
}

/// Word that is a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// The word as written.
    pub(crate) word: &'static str,
    /// Notation by number that means the same, if there is one.
    pub(crate) number: Option<String>,
}

impl Word {
    /// Words that are not numbers by another name.
    pub(crate) fn plain<T>(words: &[(&'static str, T)]) -> Vec<Word> {
        let word = |word| Word { word, number: None };
        words.iter().map(|(text, _)| word(*text)).collect()
    }

    /// Words for numbers, each written by `number`.
    pub(crate) fn numbered<T: Copy>(
        words: &[(&'static str, T)],
        number: impl Fn(T) -> String,
    ) -> Vec<Word> {
        let words = words.iter().map(|&(word, value)| Word {
            word,
            number: Some(number(value)),
        });
        words.collect()
    }
}

/// Finds one of `words`; `None` if there is no such word.
pub(crate) fn find<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Option<T> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value)
}

/// Reads one of `words`; `kind` names them with their article, as in "a verdict".
pub(crate) fn word<T: Copy>(
    text: &str,
    kind: &'static str,
    words: &[(&'static str, T)],
) -> Read<T> {
    find(text, words).ok_or_else(|| no_word(text, kind, words, None))
}

/// Refusal of a text that is no word, where a notation that the caller read before is allowed as well.
pub(crate) fn no_word<T>(
    text: &str,
    kind: &'static str,
    words: &[(&'static str, T)],
    or_else: Option<&'static str>,
) -> ValueError {
    ValueError::Word {
        text: text.to_owned(),
        kind,
        words: words.iter().map(|(word, _)| *word).collect(),
        or_else,
    }
}
