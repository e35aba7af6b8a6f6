//! Copies of good files that are damaged by rule: cut at each place, with each byte of a signature changed, with lengths and markers
//! that are wrong, of each size around the limits, and joined with other documents.
//!
//! Each verdict follows from the rule and the format's specification. [`disputed`](crate::disputed) has the files for which that is hard.

use upload_domain::{Dimensions, ImageFormat, ImageLimits, Refusal};
use upload_sandbox::samples;

use crate::disputed::{SMALL, canvas, header, jpeg, lossless, lossy, png, webp};

/// The file is not of its format.
const NEITHER: Result<Dimensions, Refusal> = Err(Refusal::ContentMismatch);

/// A file, and the right verdict on it under the default limits.
#[derive(Debug, Clone)]
pub struct Damaged {
    /// How it was made.
    pub what: String,
    /// The declared format.
    pub format: ImageFormat,
    /// The file.
    pub bytes: Vec<u8>,
    /// Its size, or why it is refused.
    pub verdict: Result<Dimensions, Refusal>,
}

/// All such files.
pub fn files() -> Vec<Damaged> {
    [cut(), with_another_signature(), joined(), of_each_size(), pngs(), jpegs(), webps()].concat()
}

/// A good file.
struct Sample {
    format: ImageFormat,
    bytes: Vec<u8>,
    size: Dimensions,
    /// Where its signatures are.
    signature: Vec<usize>,
    /// How many bytes state its size and that the pixels follow.
    head_bytes: usize,
}

fn samples() -> [Sample; 3] {
    let small = size(SMALL);
    let jpeg = samples::jpeg(SMALL.0, SMALL.1);
    let scan = jpeg.windows(2).position(|marker| marker == [0xff, 0xda]).unwrap_or_default();
    [
        // The signature, IHDR (8 + 13 + 4 bytes), and the next chunk's length and name.
        Sample {
            format: ImageFormat::Png,
            bytes: samples::png(small.width, small.height, 1),
            size: small,
            signature: (0..16).collect(),
            head_bytes: 8 + 25 + 8,
        },
        Sample { format: ImageFormat::Jpeg, bytes: jpeg, size: small, signature: vec![0, 1, 2], head_bytes: scan + 2 },
        // RIFF, the length, WEBP, the chunk's name and length, and the frame's first five bytes.
        Sample {
            format: ImageFormat::Webp,
            bytes: samples::webp(),
            size: Dimensions { width: 1, height: 1 },
            signature: (0..4).chain(8..16).chain([20]).collect(),
            head_bytes: 12 + 8 + 5,
        },
    ]
}

fn damaged(
    format: ImageFormat,
    what: impl Into<String>,
    bytes: Vec<u8>,
    verdict: Result<Dimensions, Refusal>,
) -> Damaged {
    Damaged { what: format!("{} {}", format.as_str(), what.into()), format, bytes, verdict }
}

/// Cut at each place up to a few bytes behind the head.
fn cut() -> Vec<Damaged> {
    let cut_at = |sample: &Sample, length: usize| {
        let verdict = if length < sample.head_bytes { NEITHER } else { Ok(sample.size) };
        damaged(sample.format, format!("of {length} bytes"), sample.bytes[..length].to_vec(), verdict)
    };
    let cuts = |sample: Sample| (1..sample.head_bytes + 4).map(|length| cut_at(&sample, length)).collect::<Vec<_>>();
    samples().into_iter().flat_map(cuts).collect()
}

/// With one bit of one byte of the signature changed.
fn with_another_signature() -> Vec<Damaged> {
    let mut files = Vec::new();
    for sample in samples() {
        for place in &sample.signature {
            for bit in [0x01, 0x20, 0x80] {
                let mut bytes = sample.bytes.clone();
                bytes[*place] ^= bit;
                files.push(damaged(
                    sample.format,
                    format!("with bit {bit:#x} of byte {place} changed"),
                    bytes,
                    NEITHER,
                ));
            }
        }
    }
    files
}

/// Behind a document, before a document, and declared as another format. What comes behind an image is not read.
fn joined() -> Vec<Damaged> {
    let documents: [(&str, &[u8]); 6] = [
        ("HTML", samples::HTML),
        ("SVG", samples::SVG),
        ("PDF", samples::PDF),
        ("zip", samples::ZIP),
        ("PHP", b"<?php phpinfo(); ?>"),
        ("GIF", b"GIF89a\x01\0\x01\0\0\0\0;"),
    ];
    let mut files = Vec::new();
    for Sample { format, bytes, size, .. } in samples() {
        for (name, document) in documents {
            files.push(damaged(format, format!("behind {name}"), [document, &bytes].concat(), NEITHER));
            files.push(damaged(format, format!("before {name}"), [&bytes, document].concat(), Ok(size)));
        }
        for other in ImageFormat::ALL.iter().filter(|other| **other != format) {
            files.push(damaged(*other, format!("that is {}", format.as_str()), bytes.clone(), NEITHER));
        }
    }
    files
}

/// Of sizes at, above and below the limits, in each way that a format has to state them.
fn of_each_size() -> Vec<Damaged> {
    let most = ImageLimits::default();
    let sides = [
        (1, 1),
        (12_000, 1),
        (12_001, 1),
        (1, 12_000),
        (1, 12_001),
        (7_071, 7_071),
        (7_072, 7_071),
        (12_000, 12_000),
        (16_383, 16_383),
    ];
    let verdict = |sides| {
        let size = size(sides);
        let pixels = u64::from(size.width) * u64::from(size.height);
        let fits = size.width <= most.max_width && size.height <= most.max_height && pixels <= most.max_pixels;
        if fits { Ok(size) } else { Err(Refusal::ImageTooLarge) }
    };
    let mut files = Vec::new();
    for sides in sides {
        let what = format!("of {} × {}", sides.0, sides.1);
        let verdict = verdict(sides);
        files.push(damaged(ImageFormat::Png, &what, png(&[header(sides)]), verdict));
        files.push(damaged(ImageFormat::Jpeg, &what, jpeg(&[], sides, &[]), verdict));
        files.push(damaged(ImageFormat::Webp, &what, webp(&[(*b"VP8 ", lossy(sides))]), verdict));
        let frame = (*b"VP8L", lossless(sides));
        files.push(damaged(
            ImageFormat::Webp,
            format!("{what}, lossless"),
            webp(std::slice::from_ref(&frame)),
            verdict,
        ));
        files.push(damaged(
            ImageFormat::Webp,
            format!("{what}, with a canvas"),
            webp(&[canvas(sides, 0), frame]),
            verdict,
        ));
    }
    for sides in [(0, 1), (1, 0), (0, 0)] {
        let what = format!("of {} × {}", sides.0, sides.1);
        files.push(damaged(ImageFormat::Png, &what, png(&[header(sides)]), NEITHER));
        files.push(damaged(ImageFormat::Jpeg, &what, jpeg(&[], sides, &[]), NEITHER));
        files.push(damaged(ImageFormat::Webp, &what, webp(&[(*b"VP8 ", lossy(sides))]), NEITHER));
    }
    files
}

/// With each kind of pixels (PNG specification, section 11.2.1), and with chunks that are missing or have another name.
fn pngs() -> Vec<Damaged> {
    /// The bit depths and colour types that exist.
    const KINDS: [(u8, u8); 15] = [
        (1, 0),
        (2, 0),
        (4, 0),
        (8, 0),
        (16, 0),
        (8, 2),
        (16, 2),
        (1, 3),
        (2, 3),
        (4, 3),
        (8, 3),
        (8, 4),
        (16, 4),
        (8, 6),
        (16, 6),
    ];
    let with = |what: String, pixels: [u8; 5], verdict| {
        let (kind, mut data) = header(SMALL);
        data[8..].copy_from_slice(&pixels);
        damaged(ImageFormat::Png, what, png(&[(kind, data)]), verdict)
    };
    let mut files = Vec::new();
    for depth in [0, 1, 2, 3, 4, 8, 16, 32] {
        for colour in 0..=7 {
            let verdict = if KINDS.contains(&(depth, colour)) { Ok(size(SMALL)) } else { NEITHER };
            files.push(with(format!("of depth {depth} and colour type {colour}"), [depth, colour, 0, 0, 0], verdict));
        }
    }
    for (place, value) in [(2, 1), (2, 255), (3, 1), (3, 255), (4, 2), (4, 255)] {
        let mut pixels = [8, 2, 0, 0, 0];
        pixels[place] = value;
        files.push(with(format!("of the unknown method {value} in place {place}"), pixels, NEITHER));
    }
    let good = png(&[header(SMALL)]);
    for letter in 37..41 {
        let mut bytes = good.clone();
        bytes[letter] ^= 0x20;
        files.push(damaged(
            ImageFormat::Png,
            format!("with the pixels' name changed at byte {letter}"),
            bytes,
            NEITHER,
        ));
    }
    files
}

/// With each segment before the scan missing, doubled, of another length, or under a marker that has no place there.
fn jpegs() -> Vec<Damaged> {
    let good = samples::jpeg(SMALL.0, SMALL.1);
    let mut files = Vec::new();
    let mut start = 2;
    while good[start + 1] != 0xda {
        let marker = good[start + 1];
        let length = u16::from_be_bytes([good[start + 2], good[start + 3]]);
        let end = start + 2 + usize::from(length);
        let mut add = |what: &str, segment: &[u8], verdict| {
            let bytes = [&good[..start], segment, &good[end..]].concat();
            files.push(damaged(
                ImageFormat::Jpeg,
                format!("with segment {marker:#x} at {start} {what}"),
                bytes,
                verdict,
            ));
        };
        let whole = &good[start..end];
        let is_frame = marker == 0xc0;
        // Only the one frame header must be there once.
        let verdict = if is_frame { NEITHER } else { Ok(size(SMALL)) };
        add("missing", &[], verdict);
        add("doubled", &[whole, whole].concat(), verdict);
        for wrong in [0, 1, length - 1, length + 1, 0xffff] {
            let [high, low] = wrong.to_be_bytes();
            add(&format!("of length {wrong}"), &[&[0xff, marker, high, low][..], &whole[4..]].concat(), NEITHER);
        }
        // A zero, markers without a length, arithmetic coding, a number of lines, and what is reserved.
        for other in [0x00, 0x01, 0xcc, 0xd0, 0xd7, 0xd8, 0xd9, 0xdc, 0xf0] {
            add(&format!("under marker {other:#x}"), &[&[0xff, other][..], &whole[2..]].concat(), NEITHER);
        }
        start = end;
    }
    files
}

/// With an outermost length that ends before the frame's size does, and a canvas of another length.
fn webps() -> Vec<Damaged> {
    let mut files = Vec::new();
    for length in 0_u32..17 {
        let mut bytes = samples::webp();
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        files.push(damaged(ImageFormat::Webp, format!("that claims {length} bytes"), bytes, NEITHER));
    }
    for length in [0_u32, 9, 11, u32::MAX] {
        let mut bytes = webp(&[canvas(SMALL, 0), (*b"VP8L", lossless(SMALL))]);
        bytes[16..20].copy_from_slice(&length.to_le_bytes());
        files.push(damaged(ImageFormat::Webp, format!("with a canvas that claims {length} bytes"), bytes, NEITHER));
    }
    files
}

fn size((width, height): (u16, u16)) -> Dimensions {
    Dimensions { width: width.into(), height: height.into() }
}
