//! The policy: what a form may send, and the form itself.
//!
//! Deliberately absent: `success_action_redirect` helpers, SigV2 and SigV4a, and a clock.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_smithy_types::base64;
use serde_json::{Value, json};

use crate::{
    Bucket, Checksum, PolicyError,
    signature::{ALGORITHM, Scope, rfc3339_seconds, sign, unix_seconds},
};

/// The longest life of a form: SigV4's signing key is good for seven days from the date it names.
pub const MAX_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The fields that signing writes itself, or that mean something else than a value; in lower case.
const RESERVED: [&str; 11] = [
    "bucket",
    "policy",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-signature",
    "signature",
    "awsaccesskeyid",
    "content-length-range",
    "file",
];

/// What a form may upload, until when.
///
/// Mistakes are kept until [`sign`](Self::sign), which reports the first.
#[derive(Debug, Clone)]
#[must_use]
pub struct PostPolicy {
    expires_at: SystemTime,
    conditions: Vec<Condition>,
    fields: Vec<(String, String)>,
    checksum: Option<Checksum>,
    range_bytes: Option<(u64, u64)>,
}

/// A condition on one form field.
#[derive(Debug, Clone)]
struct Condition {
    operator: Operator,
    field: String,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Exact,
    StartsWith,
}

impl PostPolicy {
    /// A policy that expires at the given time, rounded down to a whole second; the store's clock is the judge.
    pub fn new(expires_at: SystemTime) -> Self {
        Self { expires_at, conditions: Vec::new(), fields: Vec::new(), checksum: None, range_bytes: None }
    }

    /// The field must have exactly this value; the form carries it. `key` and `Content-Type` are fields like any other.
    pub fn exact(mut self, field: impl Into<String>, value: impl Into<String>) -> Self {
        let (field, value) = (field.into(), value.into());
        self.fields.push((field.clone(), value.clone()));
        self.conditions.push(Condition { operator: Operator::Exact, field, value });
        self
    }

    /// The field must begin with the prefix; an empty prefix allows anything. The form does not carry the field unless
    /// [`field`](Self::field) adds it; the client puts it before `file`.
    pub fn starts_with(mut self, field: impl Into<String>, prefix: impl Into<String>) -> Self {
        self.conditions.push(Condition { operator: Operator::StartsWith, field: field.into(), value: prefix.into() });
        self
    }

    /// Adds a field to the form which a [`starts_with`](Self::starts_with) condition covers, or whose name begins with `x-ignore-`.
    pub fn field(mut self, field: impl Into<String>, value: impl Into<String>) -> Self {
        self.fields.push((field.into(), value.into()));
        self
    }

    /// The file must have from `min_bytes` to `max_bytes` bytes, both included. A second call replaces the first.
    pub fn content_length_range(mut self, min_bytes: u64, max_bytes: u64) -> Self {
        self.range_bytes = Some((min_bytes, max_bytes));
        self
    }

    /// The file must have this digest; adds a field `x-amz-checksum-…`, last of all, and its condition. S3 takes one checksum for an
    /// object: a second call replaces the first.
    pub fn checksum(mut self, checksum: Checksum) -> Self {
        self.checksum = Some(checksum);
        self
    }

    /// Signs the policy at the time `now`, with credentials of any kind; a session token becomes a field of its own.
    ///
    /// If the credentials expire first, the form stops working with them. This function does not check their expiry.
    ///
    /// # Errors
    /// [`PolicyError`], for a policy that has expired, or that stores would refuse or read in more than one way.
    pub fn sign(
        &self,
        bucket: &Bucket,
        credentials: &Credentials,
        now: SystemTime,
    ) -> Result<PresignedPost, PolicyError> {
        let (expires, current) = (unix_seconds(self.expires_at)?, unix_seconds(now)?);
        if expires <= current {
            return Err(PolicyError::Expired);
        }
        if expires.abs_diff(current) > MAX_LIFE.as_secs() {
            return Err(PolicyError::TooLong);
        }
        let checksum = self.checksum.map(|checksum| checksum.field());
        let mut conditions = self.conditions.clone();
        conditions.extend(checksum.iter().map(|(name, digest)| Condition {
            operator: Operator::Exact,
            field: (*name).to_owned(),
            value: digest.clone(),
        }));
        check_names(conditions.iter().map(|condition| condition.field.as_str()))?;
        check_names(self.fields.iter().map(|(name, _value)| name.as_str()))?;
        check_coverage(&self.fields, &conditions)?;

        let scope = Scope::new(credentials, bucket.region(), now)?;
        let mut signing = vec![
            ("x-amz-algorithm", ALGORITHM.to_owned()),
            ("x-amz-credential", scope.credential),
            ("x-amz-date", scope.date),
        ];
        if let Some(token) = credentials.session_token() {
            signing.push(("x-amz-security-token", token.to_owned()));
        }

        let policy = self.document(bucket, &conditions, &signing)?;
        let policy = base64::encode(policy.to_string());
        let signature = sign(&policy, credentials, bucket.region(), now);

        // Garage wants a field for every condition, so `bucket` is one too; the others accept it.
        let mut form = vec![("bucket".to_owned(), bucket.name().to_owned())];
        form.extend(self.fields.iter().cloned());
        form.push(("policy".to_owned(), policy));
        form.extend(signing.into_iter().map(|(name, value)| (name.to_owned(), value)));
        form.push(("x-amz-signature".to_owned(), signature));
        form.extend(checksum.map(|(name, digest)| (name.to_owned(), digest)));
        Ok(PresignedPost { url: bucket.url().to_owned(), fields: form })
    }

    /// The policy document, <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html>.
    fn document(
        &self,
        bucket: &Bucket,
        conditions: &[Condition],
        signing: &[(&str, String)],
    ) -> Result<Value, PolicyError> {
        let mut rules = vec![json!(["eq", "$bucket", bucket.name()])];
        rules.extend(conditions.iter().map(Condition::to_json));
        rules.extend(signing.iter().map(|(name, value)| json!(["eq", format!("${name}"), value])));
        if let Some((min, max)) = self.range_bytes {
            if min > max {
                return Err(PolicyError::EmptyRange { min, max });
            }
            rules.push(json!(["content-length-range", min, max]));
        }
        // Milliseconds, as in AWS's own examples: some stores parse nothing else.
        let expiration = rfc3339_seconds(self.expires_at)?.replace('Z', ".000Z");
        Ok(json!({ "expiration": expiration, "conditions": rules }))
    }
}

impl Condition {
    fn to_json(&self) -> Value {
        let operator = match self.operator {
            Operator::Exact => "eq",
            Operator::StartsWith => "starts-with",
        };
        json!([operator, format!("${}", self.field), self.value])
    }

    fn is_met_by(&self, value: &str) -> bool {
        match self.operator {
            Operator::Exact => value == self.value,
            Operator::StartsWith => value.starts_with(&self.value),
        }
    }
}

/// Refuses names that are not valid, that signing writes itself, or that appear twice.
fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), PolicyError> {
    let mut seen: Vec<String> = Vec::new();
    for name in names {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
            return Err(PolicyError::FieldName(name.to_owned()));
        }
        let lower = name.to_ascii_lowercase();
        if RESERVED.contains(&lower.as_str()) {
            return Err(PolicyError::Reserved(name.to_owned()));
        }
        if seen.contains(&lower) {
            return Err(PolicyError::Duplicate(name.to_owned()));
        }
        seen.push(lower);
    }
    Ok(())
}

/// Every field of the form is named by a condition and meets it, and the key is bound.
fn check_coverage(fields: &[(String, String)], conditions: &[Condition]) -> Result<(), PolicyError> {
    if !conditions.iter().any(|condition| condition.field.eq_ignore_ascii_case("key")) {
        return Err(PolicyError::NoKey);
    }
    for (name, value) in fields {
        let covering = conditions.iter().find(|condition| condition.field.eq_ignore_ascii_case(name));
        match covering {
            Some(condition) if condition.is_met_by(value) => {}
            Some(_) => return Err(PolicyError::Unmet(name.clone())),
            None if name.to_ascii_lowercase().starts_with("x-ignore-") => {}
            None => return Err(PolicyError::Uncovered(name.clone())),
        }
    }
    Ok(())
}

/// A signed form: anyone who has it can upload until it expires. `Debug` hides the values.
#[derive(Clone, PartialEq, Eq)]
pub struct PresignedPost {
    /// Where to send the form: the bucket's URL.
    pub url: String,
    /// The form's fields in the order to send them; `file` follows last.
    pub fields: Vec<(String, String)>,
}

impl std::fmt::Debug for PresignedPost {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.fields.iter().map(|(name, _value)| name.as_str()).collect();
        formatter.debug_struct("PresignedPost").field("url", &self.url).field("fields", &names).finish()
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
