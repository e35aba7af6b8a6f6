//! A signed policy has the conditions that were asked for, with their exact values, and the signer's own. No value can add one.
#![no_main]

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use libfuzzer_sys::fuzz_target;
use s3_presigned_post::{Addressing, Bucket, PostPolicy};
use serde_json::{Value, json};

/// The conditions that the signer adds.
const OWN: [&str; 4] = ["$bucket", "$x-amz-algorithm", "$x-amz-credential", "$x-amz-date"];

fuzz_target!(|input: (Vec<(bool, String, String)>, Option<(u64, u64)>)| {
    let (conditions, range) = input;
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let mut policy = PostPolicy::new(now + Duration::from_secs(300));
    let mut asked = Vec::new();
    for (is_exact, field, value) in conditions {
        let operator = if is_exact { "eq" } else { "starts-with" };
        asked.push(json!([operator, format!("${field}"), value]));
        policy = if is_exact { policy.exact(field, value) } else { policy.starts_with(field, value) };
    }
    if let Some((least, most)) = range {
        asked.push(json!(["content-length-range", least, most]));
        policy = policy.content_length_range(least, most);
    }
    let bucket = Bucket::new("http://127.0.0.1:9000", Addressing::Path, "us-east-1", "images").expect("a bucket");
    let credentials = Credentials::new("signer", "secret", None, None, "fuzz");
    let Ok(form) = policy.sign(&bucket, &credentials, now) else { return };
    let text = form.fields.iter().find(|(name, _value)| name == "policy").expect("a policy");
    let policy: Value = serde_json::from_slice(&STANDARD.decode(&text.1).expect("base64")).expect("JSON");
    let signed = policy["conditions"].as_array().expect("conditions");
    for condition in &asked {
        assert!(signed.contains(condition), "{condition} is not in {signed:?}");
    }
    for condition in signed {
        let is_own = condition[1].as_str().is_some_and(|field| OWN.contains(&field));
        assert!(is_own || asked.contains(condition), "nobody asked for {condition}");
    }
});
