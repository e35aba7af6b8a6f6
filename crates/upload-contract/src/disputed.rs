//! Files whose size two readers see differently, each with the right verdict.
//!
//! Every decoder reads the size in the true place. The file leads a careless reader of headers to a false place.

use upload_domain::{Dimensions, ImageFormat, Refusal};
use upload_sandbox::samples::{self, chunk, segment};

/// A harmful size: far larger than the limits allow.
const HUGE: (u16, u16) = (65_500, 65_500);
/// The largest size of a WebP frame.
const HUGE_WEBP: (u16, u16) = (16_383, 16_383);
pub(crate) const SMALL: (u16, u16) = (64, 48);
/// The header of a JPEG's scan of one component.
const SCAN: [u8; 10] = [0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0];

/// A file, and the right verdict on it under the default limits.
#[derive(Debug, Clone)]
pub struct Disputed {
    /// The unusual part of the file.
    pub what: &'static str,
    /// The declared format.
    pub format: ImageFormat,
    /// The file.
    pub bytes: Vec<u8>,
    /// Its true size, or why it is refused.
    pub verdict: Result<Dimensions, Refusal>,
}

/// All such files.
pub fn files() -> Vec<Disputed> {
    let small = Ok(Dimensions { width: u32::from(SMALL.0), height: u32::from(SMALL.1) });
    let large = Err(Refusal::ImageTooLarge);
    let neither = Err(Refusal::ContentMismatch);
    let of = |format, verdict, cases: Vec<(&'static str, Vec<u8>)>| {
        cases.into_iter().map(move |(what, bytes)| Disputed { what, format, bytes, verdict })
    };
    let (jpeg_size, png_size) = (|size| jpeg(&[], size, &[]), |size| png(&[header(size)]));
    of(
        ImageFormat::Jpeg,
        small,
        vec![
            ("fill bytes, then a larger frame in a comment", jpeg(&filled_comment(HUGE), SMALL, &[])),
            ("fill bytes before a frame", jpeg(&[0xff; 3], SMALL, &[0xff; 300])),
            ("a larger frame in a thumbnail", jpeg(&hidden(0xe1, HUGE), SMALL, &[])),
            ("a larger frame in a comment behind the frame", jpeg(&[], SMALL, &hidden(0xfe, HUGE))),
        ],
    )
    .chain(of(
        ImageFormat::Jpeg,
        large,
        vec![
            ("fill bytes, then a smaller frame in a comment", jpeg(&filled_comment(SMALL), HUGE, &[])),
            ("a smaller frame in a thumbnail", jpeg(&hidden(0xe1, SMALL), HUGE, &[])),
            ("the largest JPEG", jpeg_size((0xffff, 0xffff))),
        ],
    ))
    .chain(of(
        ImageFormat::Jpeg,
        neither,
        vec![
            ("a second frame", jpeg(&[], SMALL, &frame(HUGE))),
            ("a second frame behind tables", jpeg(&[], SMALL, &[hidden(0xfe, SMALL), frame(HUGE)].concat())),
            ("a restart marker, which has no length", jpeg(&without_length(0xd0), HUGE, &[])),
            ("a marker for private use, which has no length", jpeg(&without_length(0x01), HUGE, &[])),
            ("an image in the image", jpeg(&without_length(0xd8), HUGE, &[])),
            ("an end before the frame", jpeg(&[0xff, 0xd9], HUGE, &[])),
            ("a scan before the frame", jpeg(&SCAN, HUGE, &[])),
            ("a stuffed zero", jpeg(&[0xff, 0, 0xff, 0], SMALL, &[])),
            ("bytes that belong nowhere", jpeg(b"\0\0\0", SMALL, &[])),
            ("a segment that is shorter than its length", jpeg(&[0xff, 0xfe, 0, 1], SMALL, &[])),
            ("a segment that is longer than the file", jpeg(&[0xff, 0xfe, 0xff, 0xff], SMALL, &[])),
            ("a height that comes later", jpeg_size((64, 0))),
            ("no width", jpeg_size((0, 48))),
            ("an application's segment that readers read too far", jpeg(&overread(), SMALL, &[])),
            ("a table that is longer than its values", jpeg(&table_with_more(HUGE), SMALL, &[])),
            ("an interval that is longer than its value", jpeg(&hidden(0xdd, HUGE), SMALL, &[])),
            ("a table of arithmetic coding", jpeg(&hidden(0xcc, HUGE), SMALL, &[])),
        ],
    ))
    .chain(of(ImageFormat::Png, large, vec![("the largest PNG", png_size((0xffff, 0xffff)))]))
    .chain(of(
        ImageFormat::Png,
        neither,
        vec![
            ("a text before the header", png(&[(*b"tEXt", header(SMALL).1), header(HUGE)])),
            ("a second header", png(&[header(SMALL), header(HUGE)])),
            ("a second header behind a text", png(&[header(SMALL), (*b"tEXt", b"a\0b".to_vec()), header(HUGE)])),
            ("pixels of no kind, and a second header", png(&[odd(SMALL), (*b"IDAT", vec![0]), header(HUGE)])),
            ("a header that is too long", png(&[(*b"IHDR", [header(SMALL).1, vec![0]].concat())])),
            ("a header that is too short", png(&[(*b"IHDR", header(SMALL).1[..12].to_vec())])),
        ],
    ))
    .chain(of(
        ImageFormat::Webp,
        small,
        vec![
            ("a frame that asks to be scaled", webp(&[(*b"VP8 ", lossy((SMALL.0 | 0xc000, SMALL.1 | 0x4000)))])),
            ("a canvas and its frame", webp(&[canvas(SMALL, 0), (*b"VP8 ", lossy(SMALL))])),
        ],
    ))
    .chain(of(
        ImageFormat::Webp,
        large,
        vec![
            ("the largest WebP", webp(&[(*b"VP8 ", lossy(HUGE_WEBP))])),
            ("the largest lossless WebP", webp(&[(*b"VP8L", lossless(HUGE_WEBP))])),
            ("the largest canvas, and its frame", webp(&[canvas(HUGE_WEBP, 0), (*b"VP8L", lossless(HUGE_WEBP))])),
        ],
    ))
    .chain(of(
        ImageFormat::Webp,
        neither,
        vec![
            ("a frame that is larger than the canvas", webp(&[canvas(SMALL, 0), (*b"VP8 ", lossy(HUGE_WEBP))])),
            (
                "a lossless frame that is larger than the canvas",
                webp(&[canvas(SMALL, 0), (*b"VP8L", lossless(HUGE_WEBP))]),
            ),
            (
                "a larger frame behind a profile",
                webp(&[canvas(SMALL, 0x20), (*b"ICCP", vec![0; 31]), (*b"VP8 ", lossy(HUGE_WEBP))]),
            ),
            ("a second canvas", webp(&[canvas(SMALL, 0), canvas(HUGE_WEBP, 0), (*b"VP8 ", lossy(SMALL))])),
            ("a canvas without a frame", webp(&[canvas(SMALL, 0)])),
            ("an animation with a frame outside the canvas", animation(HUGE_WEBP, HUGE_WEBP)),
            ("an animation whose frame is larger than it says", animation(SMALL, HUGE_WEBP)),
            ("an animation without frames", webp(&[canvas(SMALL, 2), (*b"VP8 ", lossy(HUGE_WEBP))])),
            (
                "a frame of an animation that is none",
                webp(&[canvas(SMALL, 0), animation_frame(SMALL, lossless(SMALL))]),
            ),
            ("a frame without a start", webp(&[(*b"VP8 ", [&[0x10, 2, 0, 0, 0, 0], &lossy(SMALL)[6..]].concat())])),
            ("a frame that builds on another", webp(&[(*b"VP8 ", [&[0x11], &lossy(SMALL)[1..]].concat())])),
            ("a lossless frame without a start", webp(&[(*b"VP8L", [&[0x2e], &lossless(SMALL)[1..]].concat())])),
            ("a lossless frame of another version", webp(&[(*b"VP8L", vec![0x2f, 63, 0, 12, 0x20, 0, 0, 0])])),
            ("a chunk that only begins as a frame's does", webp(&[(*b"VPxL", lossless(SMALL))])),
            ("a file that ends before its frame", webp_of(4, &[(*b"VP8 ", lossy(SMALL))])),
        ],
    ))
    .collect()
}

/// A JPEG of this size, with these bytes before and behind its frame header.
pub(crate) fn jpeg(before: &[u8], size: (u16, u16), behind: &[u8]) -> Vec<u8> {
    let whole = samples::jpeg(SMALL.0, SMALL.1);
    let old = frame(SMALL);
    let at = whole.windows(old.len()).position(|bytes| bytes == old).unwrap_or_default();
    [&whole[..at], before, &frame(size), behind, &whole[at + old.len()..]].concat()
}

fn frame((width, height): (u16, u16)) -> Vec<u8> {
    let mut bytes = Vec::new();
    segment(&mut bytes, 0xc0, |frame| samples::frame_header(frame, width, height));
    bytes
}

/// A segment that has a frame in it.
fn hidden(marker: u8, size: (u16, u16)) -> Vec<u8> {
    let mut bytes = Vec::new();
    segment(&mut bytes, marker, |body| body.extend([vec![0; 8], frame(size), vec![0; 8]].concat()));
    bytes
}

/// A comment behind a fill byte. A reader that takes the fill byte for the marker, and the marker for a length, continues inside the
/// comment.
fn filled_comment(size: (u16, u16)) -> Vec<u8> {
    let text = [vec![b' '; 0xfefc], frame(size)].concat();
    [vec![0xff], comment(&text, 0xffee)].concat()
}

/// A marker without a length. A reader that takes the next marker for its length continues inside the second comment.
fn without_length(marker: u8) -> Vec<u8> {
    let text = [vec![b' '; 0x10_000 - 0xff08], frame(SMALL)].concat();
    [vec![0xff, marker], comment(b"", 0xff00 - 2), comment(&text, 0x200)].concat()
}

/// A comment of this length that begins with this text.
fn comment(text: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let filled = std::iter::repeat_n(b' ', length - text.len());
    segment(&mut bytes, 0xfe, |body| body.extend(text.iter().copied().chain(filled)));
    bytes
}

/// A segment of four bytes, then a comment. A reader that reads five bytes misses the comment's marker and continues inside it.
fn overread() -> Vec<u8> {
    let mut bytes = Vec::new();
    segment(&mut bytes, 0xe0, |body| body.extend(b"JFIF"));
    let headers = [vec![b' '; 8], frame(HUGE), SCAN.to_vec()].concat();
    [bytes, comment(&headers, 100)].concat()
}

/// A quantization table with a frame header behind its values.
fn table_with_more(size: (u16, u16)) -> Vec<u8> {
    let mut bytes = Vec::new();
    segment(&mut bytes, 0xdb, |table| {
        table.push(1);
        table.extend([1; 64]);
        table.extend(frame(size));
    });
    bytes
}

pub(crate) type Chunk = ([u8; 4], Vec<u8>);

/// A PNG of these chunks, some image data and an end.
pub(crate) fn png(chunks: &[Chunk]) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in chunks {
        chunk(&mut bytes, kind, data);
    }
    chunk(&mut bytes, b"IDAT", b"\x78\x01\x01\0\0\xff\xff\0\0\0\x01");
    chunk(&mut bytes, b"IEND", b"");
    bytes
}

pub(crate) fn header((width, height): (u16, u16)) -> Chunk {
    let size = [u32::from(width).to_be_bytes(), u32::from(height).to_be_bytes()].concat();
    (*b"IHDR", [&size[..], &[8, 2, 0, 0, 0]].concat())
}

/// A header with a colour type that does not exist.
fn odd(size: (u16, u16)) -> Chunk {
    let (kind, mut data) = header(size);
    data[9] = 0x36;
    (kind, data)
}

pub(crate) fn webp(chunks: &[Chunk]) -> Vec<u8> {
    webp_of(4 + riff(chunks).len() as u32, chunks)
}

/// A WebP whose header claims this length.
fn webp_of(length: u32, chunks: &[Chunk]) -> Vec<u8> {
    [b"RIFF", &length.to_le_bytes()[..], b"WEBP", &riff(chunks)].concat()
}

fn riff(chunks: &[Chunk]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, data) in chunks {
        bytes.extend(kind);
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(2), 0);
    }
    bytes
}

pub(crate) fn canvas((width, height): (u16, u16), flags: u8) -> Chunk {
    (*b"VP8X", [&[flags, 0, 0, 0][..], &less_one(width), &less_one(height)].concat())
}

/// An animation on a small canvas. Its one frame claims the size `said` and has the size `size`.
fn animation(said: (u16, u16), size: (u16, u16)) -> Vec<u8> {
    webp(&[canvas(SMALL, 2), (*b"ANIM", vec![0; 6]), animation_frame(said, lossless(size))])
}

fn animation_frame((width, height): (u16, u16), frame: Vec<u8>) -> Chunk {
    let place = [&[0; 6][..], &less_one(width), &less_one(height), &[0; 4]].concat();
    (*b"ANMF", [place, riff(&[(*b"VP8L", frame)])].concat())
}

fn less_one(value: u16) -> [u8; 3] {
    let [low, high] = (value - 1).to_le_bytes();
    [low, high, 0]
}

/// The start of a key frame (RFC 6386, section 9.1), with only a few zero bytes behind it.
pub(crate) fn lossy((width, height): (u16, u16)) -> Vec<u8> {
    let [[width, more_width], [height, more_height]] = [width.to_le_bytes(), height.to_le_bytes()];
    let start = [0x10, 2, 0, 0x9d, 1, 0x2a, width, more_width, height, more_height];
    [&start[..], &[0; 32]].concat()
}

pub(crate) fn lossless((width, height): (u16, u16)) -> Vec<u8> {
    let size = u32::from(width - 1) | u32::from(height - 1) << 14;
    [&[0x2f][..], &size.to_le_bytes(), &[0; 11]].concat()
}
