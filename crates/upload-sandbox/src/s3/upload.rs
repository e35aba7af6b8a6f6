//! Receives one object. Reads its bytes outside of every lock, and verifies length and checksums before anyone can see it.

use std::error::Error;
use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::{Checksum, PutObjectInput, StreamingBlob};
use s3s::stream::ByteStream as _;
use s3s::{S3Error, S3Request, S3Result, TrailingHeaders, s3_error};
use tokio::sync::watch;

use super::store::{Object, ObjectHeaders};
use super::traffic::Traffic;

/// More than any test or demo stores; a wrong `Content-Length` may not take all memory.
const LARGEST_OBJECT_BYTES: u64 = 256 * 1024 * 1024;

/// Reads the body of a PUT, or the file of a POST, into an object that is not visible yet.
pub(super) async fn receive(
    request: &mut S3Request<PutObjectInput>,
    traffic: &watch::Sender<Traffic>,
) -> S3Result<Object> {
    let body = request.input.body.take().unwrap_or_else(|| StreamingBlob::from(s3s::Body::empty()));
    let length = declared_length(request, &body)?;
    if length > LARGEST_OBJECT_BYTES {
        return Err(s3_error!(EntityTooLarge));
    }

    let mut declared = declared_checksum(&request.input);
    let mut hasher = hasher(&declared, request.headers.get("x-amz-trailer").and_then(|names| names.to_str().ok()));
    let mut md5 = Md5::new();
    traffic.send_modify(|traffic| traffic.uploads_started += 1);
    let bytes = read(body, length, traffic, |chunk| {
        hasher.update(chunk);
        md5.update(chunk);
    })
    .await?;
    let md5 = md5.finalize();

    if let Some(trailers) = request.trailing_headers.as_ref().and_then(TrailingHeaders::take) {
        let trailer = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        declared.checksum_crc32 = trailer("x-amz-checksum-crc32").or(declared.checksum_crc32);
        declared.checksum_crc32c = trailer("x-amz-checksum-crc32c").or(declared.checksum_crc32c);
        declared.checksum_crc64nvme = trailer("x-amz-checksum-crc64nvme").or(declared.checksum_crc64nvme);
        declared.checksum_sha1 = trailer("x-amz-checksum-sha1").or(declared.checksum_sha1);
        declared.checksum_sha256 = trailer("x-amz-checksum-sha256").or(declared.checksum_sha256);
    }
    let checksum = hasher.finalize();
    // This also refuses a checksum that was announced and did not come: the computed value is not equal to none.
    if checksum != declared {
        return Err(s3_error!(BadDigest, "The checksum you specified did not match what we received"));
    }
    if request.input.content_md5.as_ref().is_some_and(|declared| *declared != BASE64_STANDARD.encode(md5)) {
        return Err(s3_error!(BadDigest, "The Content-MD5 you specified did not match what we received"));
    }

    Ok(Object {
        bytes,
        etag: md5.iter().map(|byte| format!("{byte:02x}")).collect(),
        modified_at: SystemTime::now(),
        headers: headers(&mut request.input),
        checksum,
    })
}

/// The length of the object. For an `aws-chunked` body it differs from the request's length.
fn declared_length(request: &S3Request<PutObjectInput>, body: &StreamingBlob) -> S3Result<u64> {
    let of_chunked =
        || request.headers.get("x-amz-decoded-content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    let of_body = || body.remaining_length().exact().and_then(|length| u64::try_from(length).ok());
    request
        .input
        .content_length
        .and_then(|length| u64::try_from(length).ok())
        .or_else(of_chunked)
        .or_else(of_body)
        .ok_or_else(|| s3_error!(MissingContentLength))
}

async fn read(
    mut body: StreamingBlob,
    length: u64,
    traffic: &watch::Sender<Traffic>,
    mut each: impl FnMut(&[u8]),
) -> S3Result<Bytes> {
    let length = usize::try_from(length).map_err(|_| s3_error!(EntityTooLarge))?;
    let mut bytes = BytesMut::with_capacity(length);
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(broken_body)?;
        traffic.send_modify(|traffic| traffic.received_bytes += chunk.len() as u64);
        if chunk.len() > length - bytes.len() {
            return Err(s3_error!(IncompleteBody, "The body is longer than its declared length"));
        }
        each(&chunk);
        bytes.extend_from_slice(&chunk);
    }
    if bytes.len() != length {
        return Err(s3_error!(IncompleteBody, "The body is shorter than its declared length"));
    }
    Ok(bytes.freeze())
}

/// If a body breaks off, it is a network error. Every other error comes from `s3s`, which compares the bytes with the
/// signature while it reads them.
fn broken_body(error: s3s::StdError) -> S3Error {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error.as_ref());
    while let Some(error) = cause {
        if error.is::<hyper::Error>() {
            return s3_error!(IncompleteBody, "The body broke off: {error}");
        }
        cause = error.source();
    }
    s3_error!(BadDigest, "The body is not what was signed: {error}")
}

fn declared_checksum(input: &PutObjectInput) -> Checksum {
    Checksum {
        checksum_crc32: input.checksum_crc32.clone(),
        checksum_crc32c: input.checksum_crc32c.clone(),
        checksum_crc64nvme: input.checksum_crc64nvme.clone(),
        checksum_sha1: input.checksum_sha1.clone(),
        checksum_sha256: input.checksum_sha256.clone(),
        checksum_type: None,
    }
}

/// Computes the checksums that headers or fields declare, and those that the request announces for after the body.
fn hasher(declared: &Checksum, announced: Option<&str>) -> ChecksumHasher {
    let announced = |name: &str| {
        announced.is_some_and(|names| names.split(',').any(|announced| announced.trim().eq_ignore_ascii_case(name)))
    };
    let wanted = |declared: &Option<String>, name: &str| declared.is_some() || announced(name);
    ChecksumHasher {
        crc32: wanted(&declared.checksum_crc32, "x-amz-checksum-crc32").then(Crc32::new),
        crc32c: wanted(&declared.checksum_crc32c, "x-amz-checksum-crc32c").then(Crc32c::new),
        sha1: wanted(&declared.checksum_sha1, "x-amz-checksum-sha1").then(Sha1::new),
        sha256: wanted(&declared.checksum_sha256, "x-amz-checksum-sha256").then(Sha256::new),
        crc64nvme: wanted(&declared.checksum_crc64nvme, "x-amz-checksum-crc64nvme").then(Crc64Nvme::new),
    }
}

fn headers(input: &mut PutObjectInput) -> ObjectHeaders {
    ObjectHeaders {
        cache_control: input.cache_control.take(),
        content_disposition: input.content_disposition.take(),
        // `aws-chunked` describes the request, not the object.
        content_encoding: input.content_encoding.take().filter(|encoding| encoding != "aws-chunked"),
        content_language: input.content_language.take(),
        content_type: input.content_type.take(),
        expires: input.expires.take(),
        metadata: input.metadata.take(),
    }
}
