//! JPEG (ITU-T T.81, annex B): marker by marker, up to the first scan.
//!
//! Files that decoders read differently are refused: with bytes between segments, markers without a length, or segments whose length
//! does not match their content. The whole head up to the scan is read, because some decoders use the last frame header, others the first.

use super::{Dimensions, Head, Refusal};

const FILL: u8 = 0xFF;
const HUFFMAN_TABLES: u8 = 0xC4;
const SCAN: u8 = 0xDA;
const QUANTIZATION_TABLES: u8 = 0xDB;
const RESTART_INTERVAL: u8 = 0xDD;
const APPLICATION_0: u8 = 0xE0;
const APPLICATION_15: u8 = 0xEF;
const COMMENT: u8 = 0xFE;

/// The size that the one frame header states.
pub(super) fn dimensions(head: &mut Head) -> Result<Dimensions, Refusal> {
    head.expect(&[0xFF, 0xD8])?;
    let mut frame = None;
    loop {
        head.expect(&[FILL])?;
        let mut marker = head.byte()?;
        // Any marker may be preceded by any number of fill bytes (B.1.1.2).
        while marker == FILL {
            marker = head.byte()?;
        }
        let fits = match marker {
            SCAN => return frame.ok_or(Refusal::ContentMismatch),
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF if frame.is_none() => {
                frame = Some(frame_header(segment(head)?)?);
                true
            }
            QUANTIZATION_TABLES => holds_tables(segment(head)?),
            RESTART_INTERVAL => segment(head)?.len() == 2,
            // zune-jpeg reads five bytes of such a segment of four, and continues after the next segment's marker.
            APPLICATION_0 => segment(head)?.len() != 4,
            HUFFMAN_TABLES | APPLICATION_0..=APPLICATION_15 | COMMENT => segment(head).map(|_skipped| true)?,
            _ => false,
        };
        if !fits {
            return Err(Refusal::ContentMismatch);
        }
    }
}

/// The content after a marker and its length.
fn segment<'a>(head: &mut Head<'a>) -> Result<&'a [u8], Refusal> {
    let length = u16::from_be_bytes(head.array()?);
    head.take(u64::from(length.checked_sub(2).ok_or(Refusal::ContentMismatch)?))
}

/// Precision, height, width, and three bytes for each component (B.2.2). A height of zero comes later, or never (B.2.5).
fn frame_header(segment: &[u8]) -> Result<Dimensions, Refusal> {
    match *segment {
        [_precision, h1, h0, w1, w0, components, ref each @ ..] if each.len() == 3 * usize::from(components) => {
            let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
            Ok(Dimensions { width: width.into(), height: height.into() })
        }
        _ => Err(Refusal::ContentMismatch),
    }
}

/// Whether there is nothing but whole tables: of 64 values, in two bytes each where the precision says so (B.2.4.1).
fn holds_tables(mut segment: &[u8]) -> bool {
    while let [precision, values @ ..] = segment {
        let length = if precision >> 4 == 0 { 64 } else { 128 };
        let Some(more) = values.get(length..) else { return false };
        segment = more;
    }
    true
}
