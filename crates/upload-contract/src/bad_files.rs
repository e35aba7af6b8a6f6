//! Files that are not what they claim to be. V1 refuses them during the upload, V2 at the link, both in the same words.

use anyhow::{Context as _, Result};
use serde_json::json;
use upload_domain::{HEAD_BYTES, ImageFormat, ImageLimits, ImagePath, Refusal};
use upload_sandbox::samples;

use super::{
    damaged, disputed,
    subject::{Kept, NOTHING, Strategy, Subject, assert_refused, text},
    wire::{self, FormBody, Then},
};

/// Memory that one table of bad input may add, in bytes.
pub(super) const FLAT_BYTES: u64 = 64 * 1024 * 1024;

/// Uploads each file as this format and links it. Asserts that it is refused for good with this code, and that nothing is kept.
async fn refuse_all(subject: &Subject, files: Vec<(&str, ImageFormat, Vec<u8>)>, code: &str) -> Result<()> {
    let user = subject.user().await?;
    let before = subject.server()?.peak_resident_bytes()?;
    let mut rows = subject.kept().await?.rows;
    for (what, format, file) in files {
        for declared in [None, Some(file.len())] {
            let body = json!({ "path": "user-profile", "format": format, "byteSize": declared });
            let created = user.post("/user/images", &body).await?.expect_status(201)?;
            rows += 1;
            let uploaded = user.upload(created.form(), file.clone()).await?;
            match subject.strategy {
                Strategy::Streaming => assert_refused(what, &uploaded, (422, code)),
                Strategy::Presigned => assert_eq!(uploaded.status, 201, "{what}: the store does not look"),
            }
            for _again in 0..2 {
                assert_refused(what, &user.link_profile(created.image_id()).await?, (422, code));
            }
            assert_eq!(subject.column(created.image_id(), "refused_code").await?.as_deref(), Some(code), "{what}");
            assert_eq!(subject.objects().await?, [""; 0], "{what}");
        }
        if subject.strategy == Strategy::Streaming {
            rows += 1;
            assert_refused(what, &user.stream(ImagePath::UserProfile, format, file).await?, (422, code));
            assert_eq!(subject.objects().await?, [""; 0], "{what}, by the stream route");
        }
    }
    assert_eq!(subject.kept().await?, Kept { rows, ..NOTHING });
    let refused = format!("image WHERE refused_code = '{code}' AND user_id = '{}'", user.id);
    assert_eq!(
        subject.stand.count(&refused).await?,
        subject.stand.count(&format!("image WHERE user_id = '{}'", user.id)).await?
    );
    let grown = subject.server()?.peak_resident_bytes()?.saturating_sub(before);
    assert!(grown < FLAT_BYTES, "memory has grown by {grown} bytes");
    subject.assert_goes_on().await
}

pub(super) async fn what_is_no_image_is_refused_with_the_same_words_by_both(subject: &mut Subject) -> Result<()> {
    use ImageFormat::{Jpeg, Png, Webp};
    let padded = |start: &[u8], length: usize| {
        let mut bytes = start.to_vec();
        bytes.resize(length, b' ');
        bytes
    };
    let png = samples::png(8, 8, 1);
    let files: Vec<(&str, ImageFormat, Vec<u8>)> = vec![
        ("HTML", Png, samples::HTML.to_vec()),
        ("HTML after a byte order mark", Png, [b"\xef\xbb\xbf".as_slice(), samples::HTML].concat()),
        ("a megabyte of HTML", Png, padded(samples::HTML, 1_000_000)),
        ("SVG", Png, samples::SVG.to_vec()),
        ("SVG as WebP", Webp, samples::SVG.to_vec()),
        ("PDF", Png, samples::PDF.to_vec()),
        ("half a megabyte of PDF", Jpeg, padded(samples::PDF, 500_000)),
        ("zip", Png, samples::ZIP.to_vec()),
        ("zip with a file", Png, padded(b"PK\x03\x04\x14\0\0\0", 200)),
        ("GIF", Png, b"GIF89a\x01\0\x01\0\0\0\0;".to_vec()),
        ("BMP", Png, padded(b"BM", 100)),
        ("TIFF", Png, padded(b"II*\0\x08\0\0\0", 100)),
        ("AVIF", Webp, padded(b"\0\0\0\x20ftypavif", 100)),
        ("ELF", Png, padded(b"\x7fELF\x02\x01\x01", 100)),
        ("a Windows program", Png, padded(b"MZ", 100)),
        ("gzip", Png, padded(b"\x1f\x8b\x08", 100)),
        ("a shell script", Png, b"#!/bin/sh\nexit\n".to_vec()),
        ("PHP", Jpeg, b"<?php phpinfo(); ?>".to_vec()),
        ("one byte", Png, vec![0x89]),
        ("a line's end", Png, b"\r\n".to_vec()),
        ("the signature alone", Png, png[..8].to_vec()),
        ("half a header", Png, png[..20].to_vec()),
        ("a broken signature", Png, [b"\x89PNG\n\x1a\n".as_slice(), &png[8..]].concat()),
        ("PNG behind HTML", Png, [samples::HTML, &png].concat()),
        ("PNG as JPEG", Jpeg, png.clone()),
        ("PNG as WebP", Webp, png.clone()),
        ("JPEG as PNG", Png, samples::jpeg(8, 8)),
        ("WebP as PNG", Png, samples::webp()),
        ("RIFF, but a sound", Webp, padded(b"RIFF\x10\0\0\0WAVEfmt ", 100)),
        ("a PNG of no width", Png, png_of(0, 8)),
        ("a JPEG's start", Jpeg, b"\xff\xd8\xff".to_vec()),
    ];
    refuse_all(subject, files, "content_mismatch").await
}

/// A PNG with this size in its header. Its image data is not of that size.
fn png_of(width: u32, height: u32) -> Vec<u8> {
    let mut png = samples::png(8, 8, 1);
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    png
}

pub(super) async fn a_header_that_is_too_long_or_promises_too_much_is_refused(subject: &mut Subject) -> Result<()> {
    use ImageFormat::{Jpeg, Png};
    let most = ImageLimits::default();
    let bombs = vec![
        ("60,000 × 60,000", Png, samples::pixel_bomb()),
        ("4,294,967,295 each", Png, png_of(u32::MAX, u32::MAX)),
        ("too wide", Png, png_of(most.max_width + 1, 1)),
        ("too high", Png, png_of(1, most.max_height + 1)),
        ("too many in all", Png, png_of(most.max_width, most.max_height)),
        ("a JPEG of 65,500 × 65,500", Jpeg, {
            let mut jpeg = samples::jpeg_of_exactly(2_000, 1);
            let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).context("a frame header")?;
            jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
            jpeg
        }),
    ];
    refuse_all(subject, bombs, "image_too_large").await?;
    refuse_all(subject, vec![("a long header", Jpeg, samples::jpeg_with_long_header(HEAD_BYTES))], "header_too_long")
        .await
}

/// Files that mislead a reader of headers: files that fit into the inspected head, and longer ones.
pub(super) async fn a_disputed_size_is_the_true_one_or_refused(subject: &mut Subject) -> Result<()> {
    let files = disputed::files().into_iter().flat_map(|file| {
        let mut longer = file.clone();
        longer.bytes.resize(HEAD_BYTES + 1, 0);
        [file, longer]
    });
    let (accepted, refused): (Vec<_>, Vec<_>) = files.partition(|file| file.verdict.is_ok());
    for code in [Refusal::ImageTooLarge, Refusal::ContentMismatch] {
        let files = refused.iter().filter(|file| file.verdict == Err(code));
        let files = files.map(|file| (file.what, file.format, file.bytes.clone())).collect();
        refuse_all(subject, files, code.as_str()).await?;
    }
    let user = subject.user().await?;
    for file in accepted {
        let created = user.create_image(ImagePath::UserProfile, file.format).await?.expect_status(201)?;
        user.upload(created.form(), file.bytes).await?.expect_status(201).context(file.what)?;
        user.link_profile(created.image_id()).await?.expect_status(201).context(file.what)?;
        let size = file.verdict.map(|size| format!("{}x{}", size.width, size.height)).ok();
        assert_eq!(subject.column(created.image_id(), "width || 'x' || height").await?, size, "{}", file.what);
    }
    Ok(())
}

/// Hundreds of files, each uploaded once by the form's route.
pub(super) async fn a_damaged_copy_is_judged_by_its_head(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let files = damaged::files();
    assert!(files.len() >= 400, "{}", files.len());
    for file in &files {
        let created = user.create_image(ImagePath::UserProfile, file.format).await?.expect_status(201)?;
        let uploaded = user.upload(created.form(), file.bytes.clone()).await?;
        let linked = user.link_profile(created.image_id()).await?;
        match file.verdict {
            Ok(_size) => {
                uploaded.expect_status(201).with_context(|| file.what.clone())?;
                linked.expect_status(201).with_context(|| file.what.clone())?;
            }
            Err(refusal) => {
                if subject.strategy == Strategy::Streaming {
                    assert_refused(&file.what, &uploaded, (422, refusal.as_str()));
                }
                assert_refused(&file.what, &linked, (422, refusal.as_str()));
                let incoming = subject.stand.storage.list(&format!("incoming/{}", created.image_id())).await?;
                assert_eq!(incoming, [""; 0], "{}", file.what);
            }
        }
    }
    let accepted = files.iter().filter(|file| file.verdict.is_ok()).count();
    let kept = Kept { rows: files.len() as u64, linked: accepted as u64, media: accepted };
    assert_eq!(subject.kept().await?, kept);
    subject.assert_goes_on().await
}

/// An empty file is no image. It is refused before there is an object, so another try with the same form may succeed.
pub(super) async fn an_empty_file_is_not_stored(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let created = user.create_image(ImagePath::UserProfile, ImageFormat::Png).await?.expect_status(201)?;
    let uploaded = user.upload(created.form(), Vec::new()).await?;
    match subject.strategy {
        // S3's status (EntityTooSmall).
        Strategy::Streaming => assert_refused("empty", &uploaded, (400, "empty_file")),
        Strategy::Presigned => assert!((400..500).contains(&uploaded.status), "{}", uploaded.status),
    }
    assert_eq!(subject.objects().await?, [""; 0]);
    assert_refused("empty", &user.link_profile(created.image_id()).await?, (409, "not_uploaded"));
    if subject.strategy == Strategy::Streaming {
        let streamed = user.stream(ImagePath::UserProfile, ImageFormat::Png, Vec::new()).await?;
        assert_refused("empty, by the stream route", &streamed, (422, "empty_file"));
    }
    assert_eq!(subject.kept().await?, Kept { rows: 1, ..NOTHING });
    user.upload(created.form(), samples::png(8, 8, 1)).await?.expect_status(201)?;
    user.link_profile(created.image_id()).await?.expect_status(201)?;
    Ok(())
}

pub(super) async fn one_byte_over_the_limit_is_not_stored(subject: &mut Subject) -> Result<()> {
    const LIMIT: usize = 400_000;
    subject.add_server(&[("MAX_IMAGE_BYTES", &LIMIT.to_string())]).await?;
    let user = subject.user().await?;
    let before = subject.server()?.peak_resident_bytes()?;
    let declared = json!({ "path": "user-profile", "format": "image/jpeg", "byteSize": LIMIT + 1 });
    assert_refused("declared", &user.post("/user/images", &declared).await?, (413, "payload_too_large"));
    assert_eq!(subject.kept().await?, NOTHING);

    let created = user.create_image(ImagePath::UserProfile, ImageFormat::Jpeg).await?.expect_status(201)?;
    let id = created.image_id();
    // S3 answers 400 (EntityTooLarge). If the request is too long for any form within the limit, V1 answers 413 before it reads it.
    for (size, status) in [(LIMIT + 1, 400), (LIMIT + 100, 400), (2 * LIMIT, 413), (8 * LIMIT, 413)] {
        let what = size.to_string();
        let uploaded = user.upload(created.form(), samples::jpeg_of_exactly(size, 1)).await?;
        match subject.strategy {
            Strategy::Streaming => assert_refused(&what, &uploaded, (status, "payload_too_large")),
            Strategy::Presigned => assert!((400..500).contains(&uploaded.status), "{what}: {}", uploaded.status),
        }
        assert_eq!(subject.objects().await?, [""; 0], "{what}");
        assert_refused(&what, &user.link_profile(id).await?, (409, "not_uploaded"));
        if subject.strategy == Strategy::Streaming {
            let file = samples::jpeg_of_exactly(size, 1);
            let streamed = user.stream(ImagePath::UserProfile, ImageFormat::Jpeg, file).await?;
            assert_refused(&what, &streamed, (413, "payload_too_large"));
        }
    }
    // Without a length, the server learns only while it reads that the file is too large.
    if subject.strategy == Strategy::Streaming {
        for size in [LIMIT + 1, 4 * LIMIT] {
            let form = FormBody::of(created.form())?.file(&samples::jpeg_of_exactly(size, 1)).end();
            let url = text(&created.form()["url"]);
            let headers =
                [("Content-Type", wire::form_headers(0)[0].1.clone()), ("Transfer-Encoding", "chunked".to_owned())];
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let request = wire::request("POST", url, &headers, &wire::chunked(&form, 10_000))?;
            let answer = wire::exchange(url, request, Then::Wait).await?.context("an answer")?;
            assert_refused("chunked", &answer, (413, "payload_too_large"));
        }
    }
    assert_eq!(subject.kept().await?, Kept { rows: 1, ..NOTHING });
    let grown = subject.server()?.peak_resident_bytes()?.saturating_sub(before);
    assert!(grown < FLAT_BYTES, "memory has grown by {grown} bytes");

    let whole = samples::jpeg_of_exactly(LIMIT, 1);
    user.upload(created.form(), whole.clone()).await?.expect_status(201)?;
    user.link_profile(id).await?.expect_status(201)?;
    assert!(user.download(id).await?.body == whole);
    Ok(())
}
