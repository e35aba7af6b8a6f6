//! A part of a file's head gives the same verdict as the whole, or is too short; and no verdict exceeds the limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upload_domain::{ImageFormat, ImageLimits, Refusal, inspect};

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    let limits = ImageLimits::default();
    for format in ImageFormat::ALL {
        let judge = |head: &[u8]| inspect(head, bytes.len() as u64, None, *format, &limits);
        let whole = judge(bytes);
        if let Ok(size) = whole {
            assert!(size.width > 0 && size.width <= limits.max_width, "{size:?}");
            assert!(size.height > 0 && size.height <= limits.max_height, "{size:?}");
        }
        let part = &bytes[..usize::from(cut).min(bytes.len())];
        if !part.is_empty() {
            let judged = judge(part);
            assert!(judged == whole || judged == Err(Refusal::HeaderTooLong), "{judged:?}, not {whole:?}");
        }
    }
});
