//! Documents name the formats by hand, so this test compares them with the code.

use std::{collections::BTreeSet, fs};

use upload_domain::ImageFormat;

#[test]
fn the_guide_names_every_format_and_no_other() {
    let guide = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/API.md")).unwrap();
    let named = guide.split("image/").skip(1).map(|rest| {
        let word: String = rest.chars().take_while(|character| character.is_ascii_alphanumeric()).collect();
        format!("image/{word}")
    });
    let formats = ImageFormat::ALL.iter().map(ToString::to_string);
    assert_eq!(named.collect::<BTreeSet<_>>(), formats.collect());
}
