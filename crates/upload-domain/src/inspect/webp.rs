//! WebP (RFC 9649): the first frame, and the canvas around it where there is one.
//!
//! Some decoders use the canvas, others the frame, so both must agree. In an animation only the first frame is checked: no frame may leave
//! the canvas. Data after the first frame is not read, because it may lie beyond the head.

use super::{Dimensions, Head, Refusal};

const ANIMATION: u8 = 0x02;

/// The size of the frame, or of the canvas.
pub(super) fn dimensions(head: &mut Head) -> Result<Dimensions, Refusal> {
    head.expect(b"RIFF")?;
    let length = u32::from_le_bytes(head.array()?);
    head.end_after(length.into());
    head.expect(b"WEBP")?;
    let (kind, length) = chunk(head)?;
    match &kind {
        b"VP8 " => lossy(head),
        b"VP8L" => lossless(head),
        b"VP8X" if length == 10 => extended(head),
        _ => Err(Refusal::ContentMismatch),
    }
}

/// A chunk's name and length; what is in it comes next.
fn chunk(head: &mut Head) -> Result<([u8; 4], u32), Refusal> {
    Ok((head.array()?, u32::from_le_bytes(head.array()?)))
}

/// A canvas, and what comes up to the first frame, which fills it. The first frame of an animation may be smaller.
fn extended(head: &mut Head) -> Result<Dimensions, Refusal> {
    let [flags, _, _, _] = head.array()?;
    let canvas = less_one(head)?;
    let mut announced = (flags & ANIMATION == 0).then_some(canvas);
    loop {
        let (kind, length) = chunk(head)?;
        let frame = match &kind {
            b"VP8 " => lossy(head)?,
            b"VP8L" => lossless(head)?,
            b"ANMF" if announced.is_none() => {
                announced = Some(animation_frame(head, canvas)?);
                continue;
            }
            b"ANMF" | b"VP8X" => return Err(Refusal::ContentMismatch),
            _ => {
                let _skipped = head.take(u64::from(length).next_multiple_of(2))?;
                continue;
            }
        };
        return if announced == Some(frame) { Ok(canvas) } else { Err(Refusal::ContentMismatch) };
    }
}

/// The size of a frame whose place is within the canvas; its own chunks come next.
fn animation_frame(head: &mut Head, canvas: Dimensions) -> Result<Dimensions, Refusal> {
    let (x, y) = (2 * three_bytes(head)?, 2 * three_bytes(head)?);
    let frame = less_one(head)?;
    let _duration_and_flags: [u8; 4] = head.array()?;
    let within = x + frame.width <= canvas.width && y + frame.height <= canvas.height;
    if within { Ok(frame) } else { Err(Refusal::ContentMismatch) }
}

/// The start of a key frame (RFC 6386, section 9.1). The upper two bits of each size ask to be scaled, which nobody does.
fn lossy(head: &mut Head) -> Result<Dimensions, Refusal> {
    match head.array::<10>()? {
        [tag, _, _, 0x9D, 0x01, 0x2A, w0, w1, h0, h1] if tag & 1 == 0 => Ok(Dimensions {
            width: u16::from_le_bytes([w0, w1 & 0x3F]).into(),
            height: u16::from_le_bytes([h0, h1 & 0x3F]).into(),
        }),
        _ => Err(Refusal::ContentMismatch),
    }
}

/// The signature, 14 bits for each size less one, a bit for alpha, and the version: zero.
fn lossless(head: &mut Head) -> Result<Dimensions, Refusal> {
    head.expect(&[0x2F])?;
    let bits = u32::from_le_bytes(head.array()?);
    if bits >> 29 != 0 {
        return Err(Refusal::ContentMismatch);
    }
    Ok(Dimensions { width: (bits & 0x3FFF) + 1, height: ((bits >> 14) & 0x3FFF) + 1 })
}

fn less_one(head: &mut Head) -> Result<Dimensions, Refusal> {
    Ok(Dimensions { width: three_bytes(head)? + 1, height: three_bytes(head)? + 1 })
}

fn three_bytes(head: &mut Head) -> Result<u32, Refusal> {
    let [low, middle, high] = head.array()?;
    Ok(u32::from_le_bytes([low, middle, high, 0]))
}
