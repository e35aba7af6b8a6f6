//! Texts in `fixtures/`, compared word by word.

use std::{fs, path::Path};

/// Compares a text with the file, or writes the file with `UPDATE_FIXTURES=1`.
#[track_caller]
pub fn assert_fixture(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/fixtures").join(name);
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(&path, text).unwrap();
        return;
    }
    let known = fs::read_to_string(&path).unwrap();
    let difference = known.lines().zip(text.lines()).find(|(known, line)| known != line);
    assert!(
        known == text,
        "fixtures/{name} differs, first in {difference:?}. If the new text is right, run the test with UPDATE_FIXTURES=1 and check \
         the diff of the file."
    );
}
