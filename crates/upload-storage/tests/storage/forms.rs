//! The two forms as the signer makes them.

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{TimeDelta, Utc};
use upload_domain::{ImageFormat, ImageId, incoming_key};
use upload_storage::{FormError, FormRequest};
use uuid::Uuid;

use crate::stand::stand;

/// A form for a PNG from 5 to 10 bytes long, good for five minutes.
pub fn request() -> FormRequest {
    let now = Utc::now();
    FormRequest {
        image: ImageId::from(Uuid::now_v7()),
        format: ImageFormat::Png,
        min_bytes: 5,
        max_bytes: 10,
        checksum_sha256: None,
        now,
        expires_at: now + TimeDelta::minutes(5),
    }
}

#[tokio::test]
async fn a_post_form_has_the_portable_fields_in_their_order() {
    let stand = stand().await;
    let request = FormRequest { checksum_sha256: Some([7; 32].into()), ..request() };
    let form = stand.signer.post_form(&request).await.unwrap();
    let names: Vec<&str> = form.fields.iter().map(|(name, _value)| name.as_str()).collect();
    let mut expected = vec![
        "bucket",
        "key",
        "Content-Type",
        "success_action_status",
        "policy",
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-security-token",
        "x-amz-signature",
        "x-amz-checksum-sha256",
    ];
    if stand.signer_key.session_token.is_none() {
        expected.retain(|name| *name != "x-amz-security-token");
    }
    assert_eq!(names, expected);
    let value = |name: &str| form.fields.iter().find(|field| field.0 == name).unwrap().1.clone();
    assert_eq!(value("key"), incoming_key(request.image));
    assert!(value("x-amz-credential").starts_with(&stand.signer_key.id));

    // The policy requires an exact value for each field. Only the size has a range.
    let policy = BASE64_STANDARD.decode(value("policy")).unwrap();
    let policy: serde_json::Value = serde_json::from_slice(&policy).unwrap();
    let conditions = policy["conditions"].as_array().unwrap();
    assert_eq!(conditions.last().unwrap(), &serde_json::json!(["content-length-range", 5, 10]));
    let mut equalities: Vec<&str> = conditions[..conditions.len() - 1]
        .iter()
        .map(|condition| {
            assert_eq!(condition[0], "eq");
            condition[1].as_str().unwrap().trim_start_matches('$')
        })
        .collect();
    expected.retain(|name| !["policy", "x-amz-signature"].contains(name));
    expected.sort_unstable();
    equalities.sort_unstable();
    assert_eq!(equalities, expected);

    let shown = format!("{form:?}");
    assert!(!shown.contains(&value("policy")) && !shown.contains(&value("x-amz-signature")), "{shown}");
}

#[tokio::test]
async fn forms_that_would_allow_nothing_are_not_signed() {
    let stand = stand().await;
    let signer = &stand.signer;
    let valid = FormRequest { min_bytes: 8, max_bytes: 8, ..request() };
    let expired = FormRequest { expires_at: valid.now, ..valid.clone() };
    let too_long = FormRequest { expires_at: valid.now + TimeDelta::days(8), ..valid.clone() };
    for wrong in [expired, too_long] {
        assert!(matches!(signer.post_form(&wrong).await, Err(FormError::Policy(_))));
        assert!(matches!(signer.put_form(&wrong).await, Err(FormError::Policy(_))));
    }
    let backwards = FormRequest { min_bytes: 9, ..valid.clone() };
    assert!(matches!(signer.post_form(&backwards).await, Err(FormError::Policy(_))));
    assert!(matches!(signer.put_form(&request()).await, Err(FormError::SizeNotExact)));
    let put = signer.put_form(&valid).await.unwrap();
    assert!(!format!("{put:?}").contains("X-Amz-Signature"));
}
