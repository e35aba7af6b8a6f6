//! Signature Version 4 of a POST policy. There is no canonical request: what is signed is the base64 text of the policy itself
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-UsingHTTPPOST.html>).

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use aws_smithy_types::date_time::{DateTime, Format};

use crate::PolicyError;

/// The only algorithm: HMAC with SHA-256.
pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What the fields `x-amz-credential` and `x-amz-date` say.
pub(crate) struct Scope {
    pub(crate) credential: String,
    pub(crate) date: String,
}

impl Scope {
    pub(crate) fn new(credentials: &Credentials, region: &str, now: SystemTime) -> Result<Self, PolicyError> {
        let date = rfc3339_seconds(now)?.replace(['-', ':'], "");
        let day = date.split_once('T').map_or(date.as_str(), |(day, _time)| day);
        let credential = format!("{}/{day}/{region}/s3/aws4_request", credentials.access_key_id());
        Ok(Self { credential, date })
    }
}

/// The lower-case hexadecimal signature of a policy that is already in base64.
pub(crate) fn sign(policy_base64: &str, credentials: &Credentials, region: &str, now: SystemTime) -> String {
    let key = generate_signing_key(credentials.secret_access_key(), now, region, "s3");
    calculate_signature(key, policy_base64.as_bytes())
}

/// Whole seconds since 1970; a fraction is dropped, so that an expiry is never later than what was asked for.
pub(crate) fn unix_seconds(time: SystemTime) -> Result<i64, PolicyError> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok();
    since.and_then(|since| i64::try_from(since.as_secs()).ok()).ok_or(PolicyError::Time)
}

/// `2015-12-29T00:00:00Z`.
pub(crate) fn rfc3339_seconds(time: SystemTime) -> Result<String, PolicyError> {
    let time = DateTime::from_secs(unix_seconds(time)?);
    time.fmt(Format::DateTime).ok().ok_or(PolicyError::Time)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_smithy_types::base64;

    use super::*;

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-post-example.html>. The published base64 is of a text with CRLF ends.
    const POLICY: [&str; 15] = [
        r#"{ "expiration": "2015-12-30T12:00:00.000Z","#,
        r#"  "conditions": ["#,
        r#"    {"bucket": "sigv4examplebucket"},"#,
        r#"    ["starts-with", "$key", "user/user1/"],"#,
        r#"    {"acl": "public-read"},"#,
        r#"    {"success_action_redirect": "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html"},"#,
        r#"    ["starts-with", "$Content-Type", "image/"],"#,
        r#"    {"x-amz-meta-uuid": "14365123651274"},"#,
        r#"    {"x-amz-server-side-encryption": "AES256"},"#,
        r#"    ["starts-with", "$x-amz-meta-tag", ""],"#,
        "",
        r#"    {"x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request"},"#,
        r#"    {"x-amz-algorithm": "AWS4-HMAC-SHA256"},"#,
        r#"    {"x-amz-date": "20151229T000000Z" }"#,
        "  ]\r\n}",
    ];

    #[test]
    fn the_published_example_has_the_published_signature() {
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", secret, None, None, "test");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_451_347_200);
        let scope = Scope::new(&credentials, "us-east-1", now).unwrap();
        assert_eq!(scope.credential, "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request");
        assert_eq!(scope.date, "20151229T000000Z");

        let policy = base64::encode(POLICY.join("\r\n"));
        assert!(
            policy.starts_with(
                "eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAiY29uZGl0aW9ucyI6IFsNCiAg"
            )
        );
        let signature = sign(&policy, &credentials, "us-east-1", now);
        assert_eq!(signature, "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e");
    }

    #[test]
    fn times_that_cannot_be_written_are_refused() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        let after = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_800);
        assert_eq!(rfc3339_seconds(before), Err(PolicyError::Time));
        assert_eq!(rfc3339_seconds(after), Err(PolicyError::Time));
    }
}
