// SPDX-License-Identifier: Apache-2.0
//! Doc comments, and whether their first line names its subject.

/// First words that point at something else instead of naming the subject.
const POINTING: &[&str] = &[
    "another",
    "he",
    "her",
    "his",
    "how",
    "i",
    "it",
    "its",
    "itself",
    "mine",
    "my",
    "one",
    "ones",
    "other",
    "others",
    "our",
    "same",
    "she",
    "so",
    "such",
    "that",
    "their",
    "theirs",
    "them",
    "there",
    "these",
    "they",
    "this",
    "those",
    "us",
    "we",
    "what",
    "whatever",
    "when",
    "whenever",
    "where",
    "wherever",
    "which",
    "whichever",
    "who",
    "whom",
    "whose",
    "why",
    "you",
    "your",
];

/// Beginnings of more than one word that do the same.
const POINTING_PHRASES: &[&str] = &[
    "all of it",
    "all that",
    "as it",
    "by which",
    "for which",
    "if it",
    "in which",
    "of it",
    "of them",
    "of these",
    "of those",
    "that of",
    "the same",
    "the whole of it",
    "those of",
    "to which",
];

/// First line of one doc comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocComment<'a> {
    /// Line number in its file, from 1.
    pub line: usize,
    /// Text of the line without the comment's mark.
    pub text: &'a str,
}

impl DocComment<'_> {
    /// Whether the line names its subject: it does not begin with a pronoun or a question word.
    /// "Whether" is let pass, as it names a bool.
    pub fn names_its_subject(&self) -> bool {
        let lower = self.text.to_lowercase();
        if POINTING_PHRASES
            .iter()
            .any(|phrase| lower.starts_with(phrase))
        {
            return false;
        }
        !POINTING.contains(&first_word(&lower).as_str())
    }
}

/// Finds the doc comments of a Rust source: each run of `///` or of `//!` lines is one.
pub fn doc_comments(source: &str) -> Vec<DocComment<'_>> {
    let mut found = Vec::new();
    let mut before = None;
    for (index, line) in source.lines().enumerate() {
        let line = line.trim();
        let mark = ["///", "//!"]
            .into_iter()
            .find(|mark| line.starts_with(mark) && !line.starts_with("////"));
        if let Some(mark) = mark
            && before != Some(mark)
        {
            found.push(DocComment {
                line: index + 1,
                text: line[mark.len()..].trim(),
            });
        }
        before = mark;
    }
    found
}

/// First word of a line. Code between backticks and a link's text between brackets count as a word
/// of their own, whatever they hold.
fn first_word(line: &str) -> String {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '\'';
    let start = line.find(|c: char| is_letter(c) || c == '`' || c == '[');
    match start.map(|at| &line[at..]) {
        Some(rest) if rest.starts_with(is_letter) => {
            rest.chars().take_while(|c| is_letter(*c)).collect()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> bool {
        DocComment { line: 1, text }.names_its_subject()
    }

    #[test]
    fn pronouns_and_question_words_do_not_name_a_subject() {
        for text in [
            "What it does.",
            "Its name.",
            "Of these, two.",
            "The same of a server.",
            "(It)",
        ] {
            assert!(!names(text), "{text}");
        }
    }

    #[test]
    fn nouns_verbs_code_and_whether_do() {
        for text in [
            "Number of entries.",
            "Returns the capacity.",
            "`it` as a word of code.",
            "[`What`] with a name.",
            "Whether the link is up.",
            "Items in use.",
            "",
        ] {
            assert!(names(text), "{text}");
        }
    }

    #[test]
    fn each_run_of_doc_lines_is_one_comment() {
        let source = "//! Module.\n//! More.\n\n/// Item.\n// no doc\n//// nor this\n/// Next.\n";
        let lines: Vec<_> = doc_comments(source).iter().map(|c| c.line).collect();
        assert_eq!(lines, [1, 4, 7]);
    }
}
