//! A key names an image only if it is exactly the key that the servers make for that image.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upload_domain::{incoming_key, incoming_key_image, media_key, media_key_parts};

fuzz_target!(|rest: &str| {
    for prefix in ["", "incoming/", "media/"] {
        let key = format!("{prefix}{rest}");
        if let Some(image) = incoming_key_image(&key) {
            assert_eq!(incoming_key(image), key);
        }
        if let Some((image, attempt)) = media_key_parts(&key) {
            assert_eq!(media_key(image, attempt), key);
        }
    }
});
