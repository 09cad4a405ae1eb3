// SPDX-License-Identifier: Apache-2.0
//! Rule for doc comments: the first line names its subject, as a noun phrase or as a verb in the
//! third person ("Free list of one worker.", "Returns the capacity."). `make lint` runs this.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use sluice_sources::{doc_comments, root, rust_files};

#[test]
fn the_first_line_of_a_doc_comment_names_its_subject() {
    let top = fs::canonicalize(root()).unwrap();
    let mut total = 0;
    let mut offenders = Vec::new();
    for file in rust_files().unwrap() {
        let source = fs::read_to_string(&file).unwrap();
        let path = file.strip_prefix(&top).unwrap().display();
        for comment in doc_comments(&source) {
            total += 1;
            if !comment.names_its_subject() {
                offenders.push(format!("{path}:{}: {}", comment.line, comment.text));
            }
        }
    }
    assert!(total > 1000, "only {total} doc comments were found");
    assert!(
        offenders.is_empty(),
        "{} of {total} doc comments begin with a pronoun or a question word:\n{}",
        offenders.len(),
        offenders.join("\n")
    );
}
