use upload_contract::{damaged, disputed};
use upload_domain::{Dimensions, HEAD_BYTES, ImageFormat, ImageLimits, Refusal, inspect};
use upload_sandbox::not_tested::{DECODERS, not_tested};

use crate::{
    decoders::{self, File, Seen},
    mutations::{self, mutated},
};

/// How many mutated files are compared.
const MUTATIONS: usize = 6_000;

/// The size that the head gives, if every size is allowed.
fn size(bytes: &[u8], total: usize, format: ImageFormat) -> Result<Dimensions, Refusal> {
    let any =
        ImageLimits { max_image_bytes: u64::MAX, max_width: u32::MAX, max_height: u32::MAX, max_pixels: u64::MAX };
    inspect(&bytes[..bytes.len().min(HEAD_BYTES)], total as u64, None, format, &any)
}

/// Asserts that no file was accepted with a smaller size than the decoder sees. Returns how many files both could read.
fn assert_never_smaller(decoder: &str, files: &[File], seen: &[Seen]) -> usize {
    let mut both = 0;
    let mut smaller = Vec::new();
    for (number, ((format, bytes), seen)) in files.iter().zip(seen).enumerate() {
        let (Ok(said), Some(seen)) = (size(bytes, bytes.len(), *format), seen) else { continue };
        both += 1;
        if said.width < seen.width || said.height < seen.height {
            let path = std::env::temp_dir().join(format!("smaller-{decoder}-{number}"));
            std::fs::write(&path, bytes).unwrap();
            smaller.push((path, said, seen));
        }
    }
    assert!(smaller.is_empty(), "{decoder} sees more than was said: {smaller:#?}");
    both
}

fn compare(files: &[File], least: usize) {
    let mut counted = vec![("image", Some(decoders::image(files)))];
    counted.push(("Pillow", decoders::pillow(files)));
    counted.push(("libvips", decoders::libvips(files)));
    for (decoder, seen) in counted {
        let Some(seen) = seen else {
            not_tested(DECODERS, &format!("there is no {decoder} on this machine")).unwrap();
            continue;
        };
        let both = assert_never_smaller(decoder, files, &seen);
        println!("{decoder}: {both} of {} read by both", files.len());
        assert!(both >= least, "{decoder} and `inspect` both read {both} of {} files only", files.len());
    }
}

#[test]
fn a_disputed_size_is_the_true_one_or_refused() {
    let mut wrong = Vec::new();
    for file in disputed::files() {
        let said = inspect(&file.bytes, file.bytes.len() as u64, None, file.format, &ImageLimits::default());
        if said != file.verdict {
            wrong.push(format!("{} ({}): {said:?}, not {:?}", file.what, file.format.as_str(), file.verdict));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_decoder_sees_more_in_a_disputed_file() {
    let files: Vec<File> = disputed::files().into_iter().map(|file| (file.format, file.bytes)).collect();
    compare(&files, 8);
}

#[test]
fn a_damaged_copy_is_judged_by_its_head() {
    let mut wrong = Vec::new();
    for file in damaged::files() {
        let said = inspect(&file.bytes, file.bytes.len() as u64, None, file.format, &ImageLimits::default());
        if said != file.verdict {
            wrong.push(format!("{}: {said:?}, not {:?}", file.what, file.verdict));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_decoder_sees_more_in_a_damaged_copy() {
    let files: Vec<File> = damaged::files().into_iter().map(|file| (file.format, file.bytes)).collect();
    compare(&files, 40);
}

#[test]
fn what_encoders_make_is_accepted_as_decoders_see_it() {
    let files = mutations::good();
    let all = [Some(decoders::image(&files)), decoders::pillow(&files), decoders::libvips(&files)];
    for seen in all.into_iter().flatten() {
        for ((name, (format, bytes)), seen) in mutations::NAMES.iter().zip(&files).zip(seen) {
            assert_eq!(size(bytes, bytes.len(), *format).ok(), seen, "{name}");
            assert!(seen.is_some(), "{name}");
        }
    }
}

#[test]
fn no_decoder_sees_more_in_a_mutated_file() {
    let files = mutated(MUTATIONS, 11);
    compare(&files, MUTATIONS / 10);
}

/// V1 relies on this: while the head is too short, it tries again with more bytes.
#[test]
fn a_part_of_a_head_is_too_short_or_judged_as_the_whole() {
    for (number, (format, bytes)) in mutated(1_000, 12).iter().enumerate() {
        let whole = size(bytes, bytes.len(), *format);
        for end in 1..bytes.len().min(400) {
            let part = size(&bytes[..end], bytes.len(), *format);
            assert!(
                part == Err(Refusal::HeaderTooLong) || part == whole,
                "{number}, {end} bytes: {part:?}, not {whole:?}"
            );
        }
    }
}
