//! Signed URLs, by SigV4's query parameters (<https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>).
//!
//! This does not use the SDK's `presigned()`, which is async and runs the whole request pipeline for a pure function.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::Credentials;
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningError,
        SigningSettings, UriPathNormalizationMode, sign,
    },
    sign::v4::SigningParams,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3_presigned_post::Bucket;

use crate::BoxError;

/// All but SigV4's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// In a path the slash stays.
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

/// A URL that cannot be signed.
#[derive(Debug, thiserror::Error)]
#[error("the URL cannot be signed")]
pub struct UrlError(#[source] BoxError);

impl From<SigningError> for UrlError {
    fn from(error: SigningError) -> Self {
        Self(error.into())
    }
}

/// Signs URLs of one bucket, as clients reach it, with one key.
#[derive(Debug)]
pub(crate) struct UrlSigner<'a> {
    bucket: &'a Bucket,
    credentials: &'a Credentials,
}

impl<'a> UrlSigner<'a> {
    pub(crate) fn new(bucket: &'a Bucket, credentials: &'a Credentials) -> Self {
        Self { bucket, credentials }
    }

    /// A URL that is valid from `now` for `lasts`, in whole seconds, at most seven days. `parameters` of its query are signed too. The
    /// client must send `headers` (in lower case) unchanged.
    pub(crate) fn sign(
        &self,
        method: &str,
        key: &str,
        parameters: &[(&str, &str)],
        headers: &[(&str, &str)],
        now: SystemTime,
        lasts: Duration,
    ) -> Result<String, UrlError> {
        let url = format!("{}/{}", self.bucket.url().trim_end_matches('/'), encode_key(key));
        let url = url + &query_of(parameters);
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(lasts);
        // S3 neither encodes twice nor normalizes, unlike the other services that these defaults are for.
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
        let identity = self.credentials.clone().into();
        let signing = SigningParams::builder()
            .identity(&identity)
            .region(self.bucket.region())
            .name("s3")
            .time(now)
            .settings(settings)
            .build()
            .map_err(|error| UrlError(error.into()))?;
        let request = SignableRequest::new(method, &url, headers.iter().copied(), SignableBody::UnsignedPayload)?;
        let (instructions, _signature) = sign(request, &signing.into())?.into_parts();
        let (_headers, query) = instructions.into_parts();
        let query: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, RESERVED))).collect();
        let separator = if parameters.is_empty() { '?' } else { '&' };
        Ok(format!("{url}{separator}{}", query.join("&")))
    }
}

/// A key encoded for a URL's path and for `x-amz-copy-source`.
pub(crate) fn encode_key(key: &str) -> String {
    utf8_percent_encode(key, RESERVED_IN_PATH).to_string()
}

/// These parameters as a query with its question mark; empty without parameters.
pub(crate) fn query_of(parameters: &[(&str, &str)]) -> String {
    let mut query = String::new();
    for (name, value) in parameters {
        let separator = if query.is_empty() { '?' } else { '&' };
        query.push_str(&format!("{separator}{name}={}", utf8_percent_encode(value, RESERVED)));
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;
    use s3_presigned_post::Addressing;

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>, "Example".
    #[test]
    fn the_published_example_has_the_published_signature() {
        let bucket =
            Bucket::new("https://s3.amazonaws.com", Addressing::VirtualHost, "us-east-1", "examplebucket").unwrap();
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", secret, None, None, "test");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        let signer = UrlSigner::new(&bucket, &credentials);
        let url = signer.sign("GET", "test.txt", &[], &[], now, Duration::from_secs(86_400)).unwrap();
        let (base, query) = url.split_once('?').unwrap();
        assert_eq!(base, "https://examplebucket.s3.amazonaws.com/test.txt");
        for part in [
            "X-Amz-Algorithm=AWS4-HMAC-SHA256",
            "X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request",
            "X-Amz-Date=20130524T000000Z",
            "X-Amz-Expires=86400",
            "X-Amz-SignedHeaders=host",
            "X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
        ] {
            assert!(query.split('&').any(|found| found == part), "{part} in {query}");
        }
    }

    #[test]
    fn a_key_keeps_its_slashes_and_nothing_else_that_means_something() {
        assert_eq!(encode_key("media/1-2/3~_.x"), "media/1-2/3~_.x");
        assert_eq!(encode_key("a b+c?d#ü%"), "a%20b%2Bc%3Fd%23%C3%BC%25");
    }
}
