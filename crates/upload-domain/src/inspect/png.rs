//! PNG (W3C, third edition, section 5): the header comes first and once, and the walk ends at the image's data.
//!
//! Up to the data, since some decoders let a later header count. The frames of an animation do not matter: none may leave the
//! header's canvas. Checksums are not compared: they do not change what a decoder takes for the size.

use super::{Dimensions, Head, Refusal};

/// The size that the one header states.
pub(super) fn dimensions(head: &mut Head) -> Result<Dimensions, Refusal> {
    head.expect(b"\x89PNG\r\n\x1a\n")?;
    head.expect(b"\0\0\0\x0DIHDR")?;
    let width = u32::from_be_bytes(head.array()?);
    let height = u32::from_be_bytes(head.array()?);
    let pixels = head.array()?;
    if !are_pixels(pixels) {
        return Err(Refusal::ContentMismatch);
    }
    let mut rest = 0;
    loop {
        let _rest_and_checksum = head.take(rest + 4)?;
        rest = u32::from_be_bytes(head.array()?).into();
        match &head.array()? {
            b"IDAT" => return Ok(Dimensions { width, height }),
            b"IHDR" => return Err(Refusal::ContentMismatch),
            _ => {}
        }
    }
}

/// Whether these are a bit depth, a colour type that allows it, and known methods (11.2.1). After unknown ones, Pillow continues after
/// the image's data.
fn are_pixels([depth, colour, compression, filter, interlace]: [u8; 5]) -> bool {
    let depths: &[u8] = match colour {
        0 => &[1, 2, 4, 8, 16],
        3 => &[1, 2, 4, 8],
        2 | 4 | 6 => &[8, 16],
        _ => &[],
    };
    depths.contains(&depth) && compression == 0 && filter == 0 && interlace <= 1
}
