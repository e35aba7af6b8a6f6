//! What is signed, and what is refused before it is signed.

use super::*;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn seconds(seconds: u64) -> SystemTime {
    NOW + Duration::from_secs(1_800_000_000 + seconds)
}

fn policy() -> PostPolicy {
    PostPolicy::new(seconds(300)).exact("key", "incoming/1")
}

fn sign_policy(policy: &PostPolicy) -> Result<PresignedPost, PolicyError> {
    let credentials = Credentials::new("AKID", "secret", None, None, "test");
    policy.sign(&bucket(), &credentials, seconds(0))
}

fn bucket() -> Bucket {
    Bucket::new("http://127.0.0.1:9000", crate::Addressing::Path, "us-east-1", "pictures").unwrap()
}

fn value<'a>(form: &'a PresignedPost, field: &str) -> &'a str {
    let (_name, value) = form.fields.iter().find(|(name, _value)| name == field).unwrap();
    value
}

fn document(form: &PresignedPost) -> Value {
    serde_json::from_slice(&base64::decode(value(form, "policy")).unwrap()).unwrap()
}

#[test]
fn a_form_carries_its_fields_in_order_and_the_policy_binds_each() {
    let policy = policy().exact("Content-Type", "image/png").content_length_range(1, 10);
    let form = sign_policy(&policy).unwrap();
    let names: Vec<&str> = form.fields.iter().map(|(name, _value)| name.as_str()).collect();
    let expected = [
        "bucket",
        "key",
        "Content-Type",
        "policy",
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-signature",
    ];
    assert_eq!(names, expected);
    assert_eq!(
        document(&form),
        json!({
            "expiration": "2027-01-15T08:05:00.000Z",
            "conditions": [
                ["eq", "$bucket", "pictures"],
                ["eq", "$key", "incoming/1"],
                ["eq", "$Content-Type", "image/png"],
                ["eq", "$x-amz-algorithm", "AWS4-HMAC-SHA256"],
                ["eq", "$x-amz-credential", "AKID/20270115/us-east-1/s3/aws4_request"],
                ["eq", "$x-amz-date", "20270115T080000Z"],
                ["content-length-range", 1, 10],
            ],
        })
    );
    assert_eq!(value(&form, "x-amz-signature").len(), 64);
}

#[test]
fn a_session_token_is_a_field_and_a_condition() {
    let credentials = Credentials::new("AKID", "secret", Some("token/+=".to_owned()), None, "test");
    let form = policy().sign(&bucket(), &credentials, seconds(0)).unwrap();
    assert_eq!(value(&form, "x-amz-security-token"), "token/+=");
    let conditions = document(&form)["conditions"].clone();
    assert!(conditions.as_array().unwrap().contains(&json!(["eq", "$x-amz-security-token", "token/+="])));
}

#[test]
fn every_checksum_is_the_last_field_in_base64_and_a_condition() {
    for (checksum, field, digest) in [
        (Checksum::Sha256([0; 32]), "x-amz-checksum-sha256", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        (Checksum::Sha1([0; 20]), "x-amz-checksum-sha1", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        (Checksum::Crc32([0; 4]), "x-amz-checksum-crc32", "AAAAAA=="),
        (Checksum::Crc32c([255; 4]), "x-amz-checksum-crc32c", "/////w=="),
        (Checksum::Crc64Nvme([0; 8]), "x-amz-checksum-crc64nvme", "AAAAAAAAAAA="),
    ] {
        let form = sign_policy(&policy().checksum(Checksum::Sha1([1; 20])).checksum(checksum)).unwrap();
        assert_eq!(form.fields.last(), Some(&(field.to_owned(), digest.to_owned())));
        let conditions = document(&form)["conditions"].clone();
        assert!(conditions.as_array().unwrap().contains(&json!(["eq", format!("${field}"), digest])));
        assert_eq!(form.fields.iter().filter(|(name, _value)| name.contains("checksum")).count(), 1);
    }
    let twice = policy().checksum(Checksum::Sha1([0; 20])).starts_with("X-Amz-Checksum-Sha1", "");
    assert_eq!(sign_policy(&twice), Err(PolicyError::Duplicate("x-amz-checksum-sha1".to_owned())));
}

#[test]
fn no_value_breaks_out_of_its_condition() {
    for text in [
        "\"",
        "\\",
        "\"],[\"starts-with\",\"$key\",\"\"",
        "\u{0}\r\n\t",
        "bücher/日本/🖼",
        "${filename}",
        "$x",
        "</script>",
        "\u{2028}",
    ] {
        let policy = policy().exact("x-amz-meta-note", text).starts_with("x-amz-meta-tag", text);
        let form = sign_policy(&policy).unwrap();
        assert_eq!(value(&form, "x-amz-meta-note"), text);
        let document = document(&form);
        let conditions = document["conditions"].as_array().unwrap();
        assert_eq!(conditions.len(), 7, "{text:?}");
        assert_eq!(conditions[2], json!(["eq", "$x-amz-meta-note", text]));
        assert_eq!(conditions[3], json!(["starts-with", "$x-amz-meta-tag", text]));
    }
}

#[test]
fn a_field_that_comes_twice_is_refused_in_any_case() {
    for twice in [
        policy().exact("key", "incoming/2"),
        policy().exact("KEY", "incoming/1"),
        policy().starts_with("Key", ""),
        policy().field("key", "incoming/1"),
        policy().starts_with("x-amz-meta-a", "").starts_with("X-Amz-Meta-A", ""),
    ] {
        assert!(matches!(sign_policy(&twice), Err(PolicyError::Duplicate(_))), "{twice:?}");
    }
}

#[test]
fn fields_that_signing_writes_are_refused() {
    for name in [
        "bucket",
        "Policy",
        "X-Amz-Signature",
        "x-amz-date",
        "x-amz-credential",
        "x-amz-algorithm",
        "x-amz-security-token",
        "AWSAccessKeyId",
        "signature",
        "file",
        "content-length-range",
    ] {
        assert_eq!(sign_policy(&policy().exact(name, "x")), Err(PolicyError::Reserved(name.to_owned())));
        assert_eq!(sign_policy(&policy().starts_with(name, "")), Err(PolicyError::Reserved(name.to_owned())));
    }
    for name in ["", "a b", "a\"b", "$key", "ключ", "a\r\nb", "a:b"] {
        assert_eq!(sign_policy(&policy().exact(name, "x")), Err(PolicyError::FieldName(name.to_owned())));
    }
}

#[test]
fn every_field_is_covered_and_meets_its_condition() {
    let bare = PostPolicy::new(seconds(300));
    assert_eq!(sign_policy(&bare), Err(PolicyError::NoKey));
    assert_eq!(sign_policy(&policy().field("acl", "private")), Err(PolicyError::Uncovered("acl".to_owned())));
    assert!(sign_policy(&policy().field("x-ignore-me", "1")).is_ok());
    let named = bare.clone().starts_with("key", "user/").field("key", "user/${filename}");
    assert_eq!(value(&sign_policy(&named).unwrap(), "key"), "user/${filename}");
    let elsewhere = bare.starts_with("key", "user/").field("key", "other/x");
    assert_eq!(sign_policy(&elsewhere), Err(PolicyError::Unmet("key".to_owned())));
}

#[test]
fn sizes_that_allow_nothing_are_refused() {
    assert_eq!(sign_policy(&policy().content_length_range(2, 1)), Err(PolicyError::EmptyRange { min: 2, max: 1 }));
    for (min, max) in [(0, 0), (5, 5), (0, u64::MAX)] {
        let form = sign_policy(&policy().content_length_range(min, max)).unwrap();
        assert_eq!(document(&form)["conditions"][5], json!(["content-length-range", min, max]));
    }
}

#[test]
fn a_form_lives_at_least_one_second_and_at_most_seven_days() {
    let lives = |life: Duration| sign_policy(&PostPolicy::new(seconds(0) + life).exact("key", "k")).map(drop);
    assert_eq!(lives(Duration::ZERO), Err(PolicyError::Expired));
    assert_eq!(lives(Duration::from_millis(999)), Err(PolicyError::Expired), "it would be signed as expired");
    assert_eq!(lives(Duration::from_secs(1)), Ok(()));
    assert_eq!(lives(MAX_LIFE), Ok(()));
    assert_eq!(lives(MAX_LIFE + Duration::from_secs(1)), Err(PolicyError::TooLong));
    let past = PostPolicy::new(NOW).exact("key", "k");
    assert_eq!(sign_policy(&past), Err(PolicyError::Expired));
}

#[test]
fn debug_shows_names_but_no_values() {
    let form = sign_policy(&policy()).unwrap();
    let shown = format!("{form:?}");
    assert!(shown.contains("x-amz-signature"));
    assert!(!shown.contains(value(&form, "x-amz-signature")) && !shown.contains(value(&form, "policy")));
}
