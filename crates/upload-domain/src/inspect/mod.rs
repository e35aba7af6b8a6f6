//! Decides from a file's first bytes whether it is an acceptable image. Both servers use this decision.
//!
//! It reads only headers and decodes nothing, so a decompression bomb costs nothing. It follows the rules that all decoders share. If two
//! decoders would read a file differently, the file is refused, so that nobody sees a larger image than the one checked here. GIF and SVG
//! are absent on purpose.

mod head;
mod jpeg;
mod png;
mod webp;

use head::Head;

use crate::{ImageFormat, ImageLimits, words};

/// How much of a file is inspected, in bytes: enough for the headers of real images, small enough to hold.
pub const HEAD_BYTES: usize = 256 * 1024;

words!(
    /// Why a body was refused for its content. The words are the API's error codes, and the row stores them.
    Refusal {
        /// It has no bytes.
        EmptyFile = "empty_file",
        /// It does not have the declared size, or is larger than the limit.
        SizeMismatch = "size_mismatch",
        /// Its bytes are not of the declared format.
        ContentMismatch = "content_mismatch",
        /// It is wider, higher or has more pixels than allowed.
        ImageTooLarge = "image_too_large",
        /// Its headers do not end within the first [`HEAD_BYTES`].
        HeaderTooLong = "header_too_long",
        /// Its SHA-256 does not match the declared one.
        ChecksumMismatch = "checksum_mismatch",
    }
);

/// An image's size in pixels, as its header states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dimensions {
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
}

/// Decides from a file's first bytes whether it is acceptable.
///
/// `head` is the whole file or its first [`HEAD_BYTES`], whichever is less; `total_bytes` is the file's length and
/// `expected_bytes` the declared one. The sizes are checked first, then the format, then the dimensions. A shorter head gives either the
/// same result as the full one, or [`Refusal::HeaderTooLong`].
pub fn inspect(
    head: &[u8],
    total_bytes: u64,
    expected_bytes: Option<u64>,
    format: ImageFormat,
    limits: &ImageLimits,
) -> Result<Dimensions, Refusal> {
    if total_bytes == 0 || head.is_empty() {
        return Err(Refusal::EmptyFile);
    }
    if total_bytes > limits.max_image_bytes || expected_bytes.is_some_and(|expected| expected != total_bytes) {
        return Err(Refusal::SizeMismatch);
    }
    let mut head = Head::new(head, total_bytes);
    let Dimensions { width, height } = match format {
        ImageFormat::Jpeg => jpeg::dimensions(&mut head)?,
        ImageFormat::Png => png::dimensions(&mut head)?,
        ImageFormat::Webp => webp::dimensions(&mut head)?,
    };
    if width == 0 || height == 0 {
        return Err(Refusal::ContentMismatch);
    }
    let pixels = u64::from(width) * u64::from(height);
    if width > limits.max_width || height > limits.max_height || pixels > limits.max_pixels {
        return Err(Refusal::ImageTooLarge);
    }
    Ok(Dimensions { width, height })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The signature, `IHDR` and an empty `IDAT` of a PNG of the given size (PNG specification, section 11.2).
    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes.extend([8, 6, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(b"\0\0\0\0IDAT\0\0\0\0");
        bytes
    }

    fn judge(bytes: &[u8], format: ImageFormat) -> Result<Dimensions, Refusal> {
        inspect(bytes, bytes.len() as u64, None, format, &ImageLimits::default())
    }

    #[test]
    fn a_png_header_gives_its_dimensions() {
        assert_eq!(judge(&png(640, 480), ImageFormat::Png), Ok(Dimensions { width: 640, height: 480 }));
    }

    #[test]
    fn what_is_no_image_of_the_declared_format_is_refused() {
        let html = b"<html><script>alert(1)</script>";
        let svg = b"<svg xmlns='http://www.w3.org/2000/svg'/>";
        for bytes in [html.as_slice(), svg, b"%PDF-1.7", b"PK\x03\x04", b"GIF89a\x01\0\x01\0", b"\x89PNG\r\n\x1a\n"] {
            assert_eq!(judge(bytes, ImageFormat::Png), Err(Refusal::ContentMismatch), "{bytes:?}");
        }
        assert_eq!(judge(&png(1, 1), ImageFormat::Jpeg), Err(Refusal::ContentMismatch));
        assert_eq!(judge(&png(0, 1), ImageFormat::Png), Err(Refusal::ContentMismatch));
        assert_eq!(judge(b"", ImageFormat::Png), Err(Refusal::EmptyFile));
    }

    #[test]
    fn a_pixel_bomb_is_refused_by_its_header() {
        let ImageLimits { max_width, max_height, .. } = ImageLimits::default();
        let too_large =
            [(60_000, 60_000), (max_width + 1, 1), (1, max_height + 1), (max_width, max_height), (u32::MAX, u32::MAX)];
        for (width, height) in too_large {
            assert_eq!(judge(&png(width, height), ImageFormat::Png), Err(Refusal::ImageTooLarge), "{width} x {height}");
        }
    }

    #[test]
    fn sizes_are_judged_against_the_declared_and_the_largest() {
        let bytes = png(1, 1);
        let length = bytes.len() as u64;
        let limits = ImageLimits { max_image_bytes: length, ..ImageLimits::default() };
        assert!(inspect(&bytes, length, Some(length), ImageFormat::Png, &limits).is_ok());
        assert_eq!(inspect(&bytes, length, Some(length + 1), ImageFormat::Png, &limits), Err(Refusal::SizeMismatch));
        let limits = ImageLimits { max_image_bytes: length - 1, ..limits };
        assert_eq!(inspect(&bytes, length, None, ImageFormat::Png, &limits), Err(Refusal::SizeMismatch));
    }

    #[test]
    fn a_header_that_goes_on_past_the_head_is_too_long() {
        // A JPEG whose application segments fill the head before any frame header.
        let mut jpeg = vec![0xFF, 0xD8];
        while jpeg.len() < HEAD_BYTES {
            jpeg.extend([0xFF, 0xE1, 0xFF, 0xFF]);
            jpeg.extend(std::iter::repeat_n(0, 0xFFFD));
        }
        let total = jpeg.len() as u64 + 1;
        jpeg.truncate(HEAD_BYTES);
        let judged = inspect(&jpeg, total, None, ImageFormat::Jpeg, &ImageLimits::default());
        assert_eq!(judged, Err(Refusal::HeaderTooLong));
    }
}
