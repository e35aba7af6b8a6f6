//! What can go wrong with the store, by what the caller can do about it.

use aws_sdk_s3::{config::http::HttpResponse, error::SdkError};

/// Any error, with its causes.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request to the store failed. A write may have happened all the same: the refused request may be a retry.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// It could not be reached, broke off, or answered 5xx or 429: worth another try later.
    #[error("the object store is unavailable")]
    Unavailable(#[source] BoxError),
    /// It did not answer in time: worth another try later.
    #[error("the object store did not answer in time")]
    Timeout(#[source] BoxError),
    /// It answered 4xx, or the request could not be made: keys, bucket or region are wrong.
    #[error("the object store refused the request")]
    Refused(#[source] BoxError),
}

impl StorageError {
    /// A [`Timeout`](Self::Timeout) that was noticed outside this crate.
    pub fn timeout(source: impl Into<BoxError>) -> Self {
        Self::Timeout(source.into())
    }

    /// A broken connection or a wrong answer.
    pub fn unavailable(source: impl Into<BoxError>) -> Self {
        Self::Unavailable(source.into())
    }
}

impl<E> From<SdkError<E, HttpResponse>> for StorageError
where
    E: std::error::Error + Send + Sync + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        let kind = match &error {
            SdkError::TimeoutError(_) => Self::Timeout,
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Self::Timeout,
            SdkError::ConstructionFailure(_) => Self::Refused,
            // 408 is S3's own word for a connection that stalled.
            SdkError::ServiceError(service) => match service.raw().status().as_u16() {
                408 | 429 | 500.. => Self::Unavailable,
                _ => Self::Refused,
            },
            _ => Self::Unavailable,
        };
        kind(Box::new(error))
    }
}

/// One version of an object, named by its ETag, is not there.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// The key holds other bytes now.
    #[error("the object has changed")]
    Changed,
    /// The key holds nothing.
    #[error("there is no such object")]
    Missing,
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl VersionError {
    /// Reads 412 as changed and 404 as missing, unless it is the bucket that is missing.
    pub(crate) fn from_sdk<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        match status(&error) {
            Some(412) => Self::Changed,
            Some(404) if !is_bucket_missing(&error) => Self::Missing,
            _ => Self::Storage(error.into()),
        }
    }
}

/// The HTTP status that the store answered with.
pub(crate) fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

/// The store's error code.
pub(crate) fn code<E: aws_sdk_s3::error::ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    error.as_service_error().and_then(|service| service.code())
}

/// A wrong bucket is a wrong setting, never a missing object.
pub(crate) fn is_bucket_missing<E: aws_sdk_s3::error::ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    code(error) == Some("NoSuchBucket")
}

/// An error and its causes in one line, each by `Display`: `Debug` of an SDK error holds whole replies, in which a store may repeat keys
/// and signatures. A cause that the text already spells out is not repeated.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}
