//! The sentence for an operator when a program cannot start with its bucket. It names the settings and says what to do.

use std::error::Error;

use aws_sdk_s3::{config::http::HttpResponse, error::SdkError, operation::head_bucket::HeadBucketError};

use crate::{
    BoxError, Storage, StorageError,
    error::{chain, status},
};

impl Storage {
    /// What is wrong when the bucket is not there, and what to do about it.
    pub fn advice_without_bucket(&self) -> String {
        format!(
            "S3_BUCKET: the store has no bucket `{}`; create it with `upload-ops bucket`, or correct the name or S3_ENDPOINT",
            self.bucket()
        )
    }
}

impl StorageError {
    /// What is wrong when the bucket cannot be looked at, and what to do about it. Where the store has refused that,
    /// [`refusal`](crate::rights::refusal) knows more.
    pub fn advice(&self) -> String {
        let cause = causes(self);
        let (fault, remedy) = match self {
            Self::Unavailable(_) if cause.contains("certificate") => (
                format!("S3_ENDPOINT: the store's certificate does not verify ({cause})"),
                "add its authority to the system's trusted roots, and use a host name that the certificate is for",
            ),
            Self::Unavailable(_) => (
                format!("S3_ENDPOINT: the store cannot be reached ({cause})"),
                "check that it runs, or correct the URL",
            ),
            Self::Timeout(_) => (
                format!("S3_ENDPOINT: the store did not answer in time ({cause})"),
                "check that it runs, or correct the URL",
            ),
            Self::Refused(source) => match answered(source) {
                Some(status) => (
                    format!(
                        "S3_BUCKET: the store answers {status} to HeadBucket, although the server's key may list the bucket"
                    ),
                    "correct the name, or check the store",
                ),
                None => (
                    format!("S3_ACCESS_KEY_ID: cannot sign a request with the server's key ({cause})"),
                    "correct the key or its source",
                ),
            },
        };
        format!("{fault}; {remedy}")
    }
}

/// The status that a look at the bucket was answered with.
fn answered(source: &BoxError) -> Option<u16> {
    source.downcast_ref::<SdkError<HeadBucketError, HttpResponse>>().and_then(status)
}

/// The error's causes, from the outermost to the innermost.
fn causes(error: &StorageError) -> String {
    error.source().map(chain).unwrap_or_default()
}
