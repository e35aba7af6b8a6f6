//! Why a form was not signed. In each case a store would refuse the form or, worse, understand it differently.

/// Why a policy cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The endpoint is not an `http` or `https` URL of a host, with at most a path.
    #[error("`{0}` is not an endpoint: expected http(s)://host[:port][/path] without user, query or fragment")]
    Endpoint(String),
    /// The bucket's name has characters that no bucket has, or that cannot stand in a host name.
    #[error("`{0}` is not a valid bucket name for this style of URL")]
    BucketName(String),
    /// The region is empty or has a character that would break the credential scope.
    #[error("`{0}` is not a valid region")]
    Region(String),
    /// A form field's name is empty or has characters other than ASCII letters, digits, `-` and `_`.
    #[error("`{0}` is not a valid name of a form field")]
    FieldName(String),
    /// The field is written by signing itself, or carries the file.
    #[error("the field `{0}` is set by signing and cannot be set by hand")]
    Reserved(String),
    /// The field, or a condition on it, appears twice; names are compared without case, as stores do.
    #[error("the field `{0}` is given twice")]
    Duplicate(String),
    /// There is no condition on `key`: the form could write anywhere in the bucket.
    #[error("the policy has no condition on `key`")]
    NoKey,
    /// A form field that no condition covers; stores refuse it.
    #[error("no condition covers the field `{0}`")]
    Uncovered(String),
    /// A form field's value does not begin with what its own condition asks for.
    #[error("the field `{0}` does not meet its own condition")]
    Unmet(String),
    /// The smallest size in bytes is above the largest.
    #[error("content-length-range from {min} to {max} allows nothing")]
    EmptyRange {
        /// Smallest size, in bytes.
        min: u64,
        /// Largest size, in bytes.
        max: u64,
    },
    /// The policy has expired at the time of signing, to the whole second.
    #[error("the policy has already expired")]
    Expired,
    /// The policy outlives the signing key, which is good for [`MAX_LIFE`](crate::MAX_LIFE).
    #[error("the policy would live for more than seven days")]
    TooLong,
    /// A time before 1970 or after 9999.
    #[error("a time is out of range")]
    Time,
}
