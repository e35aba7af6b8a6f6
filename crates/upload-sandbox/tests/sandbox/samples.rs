use image::{GenericImageView, ImageFormat as Decoded};
use upload_domain::{Dimensions, HEAD_BYTES, ImageFormat, ImageLimits, Refusal, inspect};
use upload_sandbox::samples;

fn judge(bytes: &[u8], format: ImageFormat) -> Result<Dimensions, Refusal> {
    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
    inspect(head, bytes.len() as u64, None, format, &ImageLimits::default())
}

fn decoded(bytes: &[u8], format: Decoded) -> (u32, u32) {
    image::load_from_memory_with_format(bytes, format).unwrap().dimensions()
}

#[test]
fn pngs_of_many_sizes_decode() {
    for (width, height) in [(1, 1), (3, 7), (64, 48), (300, 200)] {
        let png = samples::png(width, height, 5);
        assert_eq!(decoded(&png, Decoded::Png), (width, height));
        assert_eq!(judge(&png, ImageFormat::Png), Ok(Dimensions { width, height }));
    }
    assert_ne!(samples::png(8, 8, 1), samples::png(8, 8, 2));
}

#[test]
fn jpegs_of_many_sizes_decode() {
    for (width, height) in [(1, 1), (8, 8), (9, 25), (640, 480)] {
        let jpeg = samples::jpeg(width, height);
        assert_eq!(decoded(&jpeg, Decoded::Jpeg), (u32::from(width), u32::from(height)));
    }
}

#[test]
fn a_jpeg_of_exactly_so_many_bytes_has_them_and_decodes() {
    for bytes in [256, 257, 2_000, 5_000_000] {
        let jpeg = samples::jpeg_of_exactly(bytes, 7);
        assert_eq!(jpeg.len(), bytes);
        assert_eq!(decoded(&jpeg, Decoded::Jpeg), (64, 48), "{bytes}");
        assert_eq!(judge(&jpeg, ImageFormat::Jpeg), Ok(Dimensions { width: 64, height: 48 }), "{bytes}");
    }
    assert_ne!(samples::jpeg_of_exactly(1_000, 1), samples::jpeg_of_exactly(1_000, 2));
}

#[test]
fn the_webp_decodes() {
    assert_eq!(decoded(&samples::webp(), Decoded::WebP), (1, 1));
    assert_eq!(judge(&samples::webp(), ImageFormat::Webp), Ok(Dimensions { width: 1, height: 1 }));
}

#[test]
fn files_that_are_no_image_are_refused_and_so_is_the_bomb() {
    for body in [samples::HTML, samples::SVG, samples::PDF, samples::ZIP] {
        assert_eq!(judge(body, ImageFormat::Png), Err(Refusal::ContentMismatch));
    }
    assert_eq!(judge(&samples::pixel_bomb(), ImageFormat::Png), Err(Refusal::ImageTooLarge));
}
