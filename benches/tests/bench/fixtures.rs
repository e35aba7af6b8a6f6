//! Texts that are checked in under `fixtures/`, and compared word by word.

use std::{fs, path::Path};

/// Compares a text with the file, or writes it down where `UPDATE_FIXTURES=1`: then it is in the commit's diff.
#[track_caller]
pub fn settle(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/fixtures").join(name);
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(&path, text).unwrap();
        return;
    }
    let known = fs::read_to_string(&path).unwrap();
    let difference = known.lines().zip(text.lines()).find(|(known, line)| known != line);
    assert!(
        known == text,
        "fixtures/{name} says something else (from {difference:?}). If the new text is right, run the test again with \
         UPDATE_FIXTURES=1 and read the file's diff."
    );
}
