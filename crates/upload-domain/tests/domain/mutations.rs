//! Files from encoders, and copies whose parts are damaged, moved, doubled or mixed with parts of other files.
//!
//! Everything follows from a seed. Most checksums and lengths are corrected afterwards, because decoders would stop at a wrong one.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use upload_contract::disputed;
use upload_domain::ImageFormat::{self, Jpeg, Png, Webp};

use crate::decoders::File;

macro_rules! files {
    ($($format:ident $name:literal),+ $(,)?) => {
        /// Where the files of [`good`] are, in `files`.
        pub const NAMES: &[&str] = &[$($name),+];

        /// Files from Pillow's encoders, of at most 40 × 30 pixels.
        pub fn good() -> Vec<File> {
            vec![$(($format, include_bytes!(concat!("files/", $name)).to_vec())),+]
        }
    };
}

files![
    Jpeg "baseline-thumbnail.jpg", Jpeg "cmyk.jpg", Jpeg "grey.jpg", Jpeg "progressive.jpg",
    Png "animated.png", Png "grey-1.png", Png "grey-16.png", Png "grey-8.png", Png "grey-alpha.png", Png "metadata.png",
    Png "palette.png", Png "rgb.png", Png "rgba.png",
    Webp "animated-alpha.webp", Webp "animated.webp", Webp "lossless-metadata.webp", Webp "lossless.webp",
    Webp "lossy-alpha.webp", Webp "lossy-metadata.webp", Webp "lossy.webp",
];

/// This many damaged files from this seed, equally many of each format.
pub fn mutated(count: usize, seed: u64) -> Vec<File> {
    let mut random = StdRng::seed_from_u64(seed);
    let formats = ImageFormat::ALL;
    let sources_of = |format| {
        let disputed = disputed::files().into_iter().map(|file| (file.format, file.bytes));
        let short = |(of, bytes): &File| *of == format && bytes.len() < 10_000;
        good()
            .into_iter()
            .chain(disputed)
            .filter(short)
            .map(|(_format, bytes)| parts(format, &bytes))
            .collect::<Vec<_>>()
    };
    let sources: Vec<_> = formats.iter().copied().map(sources_of).collect();
    (0..count)
        .map(|number| {
            let (format, sources) = (formats[number % formats.len()], &sources[number % formats.len()]);
            let mut file = pick(&mut random, sources).clone();
            for _mutation in 0..random.random_range(1..=3) {
                mutate(&mut random, format, &mut file, sources);
            }
            let mend = random.random_ratio(9, 10);
            (format, whole(format, file, mend))
        })
        .collect()
}

fn pick<'a, T>(random: &mut StdRng, of: &'a [T]) -> &'a T {
    &of[random.random_range(0..of.len())]
}

fn pick_part(random: &mut StdRng, sources: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let file = pick(random, sources);
    pick(random, file).clone()
}

fn mutate(random: &mut StdRng, format: ImageFormat, file: &mut Vec<Vec<u8>>, sources: &[Vec<Vec<u8>>]) {
    let at = random.random_range(0..file.len());
    let other = random.random_range(0..file.len());
    match random.random_range(0..10) {
        0 => file.swap(at, other),
        1 if file.len() > 2 => drop(file.remove(at)),
        2 => file.insert(other, file[at].clone()),
        // A part of another file.
        3 => file.insert(at, pick_part(random, sources)),
        // A part within another.
        4 => {
            let inner = pick_part(random, sources);
            let part = &mut file[at];
            let place = random.random_range(0..=part.len());
            part.splice(place..place, inner);
        }
        // Bytes that have a meaning in the format.
        5 => {
            const JPEG: [&[u8]; 14] = [
                b"\xff",
                b"\xff\xff\xff",
                b"\xff\0",
                b"\0",
                b"\xff\xd0",
                b"\xff\x01",
                b"\xff\xd8",
                b"\xff\xd9",
                b"\xff\xdc\0\x04\xff\xff",
                b"\xff\xe0\0\x06JFIF",
                b"\xff\xfe\0\x02",
                b"\xff\xfe\0\x13\xff\xc0\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0zz",
                b"\xff\xee\0\x0eAdobe\0d\0\0\0\0\x01",
                b"\xff\xf0\0\x05\xff\xc0\0",
            ];
            let bytes = if format == Jpeg { *pick(random, &JPEG) } else { b"\0\0" };
            file.insert(at, bytes.to_vec());
        }
        // A wrong length.
        6 => {
            let (part, more) = (&mut file[at], random.random_range(0..=20));
            let place = match format {
                Jpeg => 3,
                Png => 3,
                Webp => 4,
            };
            if let Some(length) = part.get_mut(place) {
                *length = length.wrapping_add(more).wrapping_sub(10);
            }
        }
        _ => {
            let part = &mut file[at];
            for _byte in 0..random.random_range(1..=4) {
                if !part.is_empty() {
                    let place = random.random_range(0..part.len().min(40));
                    part[place] = random.random();
                }
            }
        }
    }
}

/// Splits a file into its parts: markers with their segments, or chunks. The signature stays in its place.
fn parts(format: ImageFormat, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &bytes[match format {
        Jpeg => 2,
        Png => 8,
        Webp => 12,
    }..];
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let number = |range: std::ops::Range<usize>| {
            rest.get(range).map(|bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
        };
        let length = match format {
            Jpeg if rest.starts_with(&[0xff, 0xda]) => None,
            Jpeg => number(2..4).map(|length| length + 2),
            Png => number(0..4).map(|length| length.saturating_add(12)),
            Webp => number(4..8).map(|length| 8 + (length as u32).swap_bytes().next_multiple_of(2) as usize),
        };
        let (part, more) = rest.split_at(length.unwrap_or(rest.len()).min(rest.len()));
        parts.push(part.to_vec());
        rest = more;
    }
    parts
}

/// Joins the parts to a file, and corrects their checksums and the outermost length.
fn whole(format: ImageFormat, mut parts: Vec<Vec<u8>>, mend: bool) -> Vec<u8> {
    if format == Png && mend {
        for part in parts.iter_mut().filter(|part| part.len() >= 12) {
            let end = part.len() - 4;
            let checksum = crc32(&part[4..end]);
            part[end..].copy_from_slice(&checksum.to_be_bytes());
        }
    }
    let body = parts.concat();
    match format {
        Jpeg => [b"\xff\xd8", &body[..]].concat(),
        Png => [b"\x89PNG\r\n\x1a\n", &body[..]].concat(),
        Webp => {
            let length = if mend { body.len() as u32 + 4 } else { 40 };
            [b"RIFF", &length.to_le_bytes()[..], b"WEBP", &body].concat()
        }
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _bit| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}
