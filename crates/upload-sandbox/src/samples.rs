//! Files to upload: valid images of any size, which are generated, and bodies that no server may take for an image.

use base64::{Engine, engine::general_purpose::STANDARD};

/// The smallest file that [`jpeg_of_exactly`] makes, in bytes.
pub const SMALLEST_JPEG: usize = 256;

/// An HTML page.
pub const HTML: &[u8] = b"<!DOCTYPE html><html><body><script>alert(1)</script></body></html>";
/// An SVG, which is a document that can carry scripts.
pub const SVG: &[u8] =
    b"<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\" width=\"8\" height=\"8\"><script>alert(1)</script></svg>";
/// The start of a PDF.
pub const PDF: &[u8] = b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer\n<< /Root 1 0 R >>\n%%EOF\n";
/// An empty ZIP archive.
pub const ZIP: &[u8] = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// A valid PNG of the given size in pixels, 8-bit RGB noise that the seed decides.
pub fn png(width: u32, height: u32, seed: u64) -> Vec<u8> {
    let mut noise = Noise(seed);
    let mut pixels = Vec::new();
    for _ in 0..height {
        pixels.push(0); // Filter type none.
        noise.fill(&mut pixels, width as usize * 3);
    }
    png_with(width, height, &stored_zlib(&pixels))
}

/// A PNG whose header claims 60,000 × 60,000 pixels, with hardly any image data.
pub fn pixel_bomb() -> Vec<u8> {
    png_with(60_000, 60_000, &stored_zlib(&[0; 64]))
}

/// A valid JPEG of the given size in pixels, all of one grey.
///
/// It is a baseline JPEG (ITU-T T.81) with one component, and Huffman tables of one code each: a block is two zero bits.
pub fn jpeg(width: u16, height: u16) -> Vec<u8> {
    let mut jpeg = vec![0xff, 0xd8];
    segment(&mut jpeg, 0xe0, |jfif| jfif.extend(b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"));
    segment(&mut jpeg, 0xdb, |table| {
        table.push(0);
        table.extend([1; 64]);
    });
    segment(&mut jpeg, 0xc0, |frame| frame_header(frame, width, height));
    for class in [0x00, 0x10] {
        segment(&mut jpeg, 0xc4, |table| {
            table.extend([class, 1]);
            table.extend([0; 16]);
        });
    }
    segment(&mut jpeg, 0xda, |scan| scan.extend([1, 1, 0, 0, 63, 0]));
    let bits = 2 * usize::from(width.div_ceil(8)) * usize::from(height.div_ceil(8));
    jpeg.resize(jpeg.len() + bits / 8, 0);
    if bits % 8 != 0 {
        jpeg.push(0xff >> (bits % 8)); // The rest of the last byte is ones.
    }
    jpeg.extend([0xff, 0xd9]);
    jpeg
}

/// A JPEG whose frame header comes after more than this many bytes of application segments.
pub fn jpeg_with_long_header(bytes: usize) -> Vec<u8> {
    let mut jpeg = vec![0xff, 0xd8];
    while jpeg.len() <= bytes {
        jpeg.extend([0xff, 0xe1, 0xff, 0xff]);
        jpeg.extend([0; 0xfffd]);
    }
    let whole = self::jpeg(64, 48);
    jpeg.extend(&whole[2..]);
    jpeg
}

/// A valid JPEG of 64 × 48 pixels and exactly `bytes` bytes. Behind the image's end it has noise, which the seed decides.
///
/// # Panics
/// If `bytes` is below [`SMALLEST_JPEG`].
pub fn jpeg_of_exactly(bytes: usize, seed: u64) -> Vec<u8> {
    assert!(bytes >= SMALLEST_JPEG, "a JPEG of {bytes} bytes is too small to make");
    let mut jpeg = jpeg(64, 48);
    let left = bytes - jpeg.len();
    Noise(seed).fill(&mut jpeg, left);
    jpeg
}

/// A valid lossless WebP of one pixel.
pub fn webp() -> Vec<u8> {
    STANDARD.decode("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==").unwrap_or_default()
}

/// A valid image in the given format, of 64 × 48 pixels, or of one pixel for WebP. Equal seeds make equal bytes.
pub fn of_format(format: upload_domain::ImageFormat, seed: u64) -> Vec<u8> {
    match format {
        upload_domain::ImageFormat::Png => png(64, 48, seed),
        upload_domain::ImageFormat::Jpeg => jpeg_of_exactly(2_000, seed),
        upload_domain::ImageFormat::Webp => webp(),
    }
}

fn png_with(width: u32, height: u32, image_data: &[u8]) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([8, 2, 0, 0, 0]); // Eight bits, RGB, deflate, adaptive filters, not interlaced.
    chunk(&mut png, b"IHDR", &header);
    chunk(&mut png, b"IDAT", image_data);
    chunk(&mut png, b"IEND", &[]);
    png
}

/// Appends a chunk to a PNG: its length, kind, data and checksum.
pub fn chunk(png: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    png.extend((data.len() as u32).to_be_bytes());
    let checked_from = png.len();
    png.extend(kind);
    png.extend(data);
    png.extend(crc32(&png[checked_from..]).to_be_bytes());
}

/// RFC 1950 around RFC 1951's stored blocks, without compression.
fn stored_zlib(data: &[u8]) -> Vec<u8> {
    let mut zlib = vec![0x78, 0x01];
    let mut blocks = data.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        zlib.push(u8::from(blocks.peek().is_none()));
        zlib.extend(length.to_le_bytes());
        zlib.extend((!length).to_le_bytes());
        zlib.extend(block);
    }
    zlib.extend(adler32(data).to_be_bytes());
    zlib
}

fn crc32(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut value = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
                bit += 1;
            }
            table[byte] = value;
            byte += 1;
        }
        table
    };
    !data.iter().fold(!0, |crc, byte| TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8))
}

fn adler32(data: &[u8]) -> u32 {
    let (low, high) = data.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    high << 16 | low
}

/// The content of the frame header of a JPEG with one component.
pub fn frame_header(frame: &mut Vec<u8>, width: u16, height: u16) {
    frame.push(8);
    frame.extend(height.to_be_bytes());
    frame.extend(width.to_be_bytes());
    frame.extend([1, 1, 0x11, 0]);
}

/// Appends a segment to a JPEG. Its length is the length of the bytes that `write_body` writes.
pub fn segment(jpeg: &mut Vec<u8>, marker: u8, write_body: impl FnOnce(&mut Vec<u8>)) {
    jpeg.extend([0xff, marker, 0, 0]);
    let start = jpeg.len();
    write_body(jpeg);
    let length = (jpeg.len() - start + 2) as u16;
    jpeg[start - 2..start].copy_from_slice(&length.to_be_bytes());
}

/// SplitMix64: equal seeds, equal bytes.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, bytes: &mut Vec<u8>, count: usize) {
        let end = bytes.len() + count;
        while bytes.len() < end {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = self.0;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            bytes.extend((word ^ (word >> 31)).to_le_bytes());
        }
        bytes.truncate(end);
    }
}
