//! POST forms: the store takes only uploads that the policy allows.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{TimeDelta, Utc};
use reqwest::StatusCode;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::signing::{Form, client};
use super::{get, put, refusal, send, store_with_bucket};

const KEY: &str = "incoming/a";

#[tokio::test]
async fn a_good_form_is_answered_as_it_asks() {
    let (s3, bucket) = store_with_bucket().await;
    let created = Form::new(bucket, "incoming/a b").sign(&s3.keys().signer).send(&s3).await;
    assert_eq!(created.status(), StatusCode::CREATED);
    let location = format!("{}/bucket/incoming/a%20b", s3.endpoint());
    // MD5 of the file.
    let etag = "\"101a0e3e2f58188b3e2ffc1057316c13\"";
    assert_eq!(created.headers()["location"], location);
    assert_eq!(created.headers()["etag"], etag);
    let xml = created.text().await.unwrap();
    for (tag, value) in [
        ("Location", location.as_str()),
        ("Bucket", bucket),
        ("Key", "incoming/a b"),
        ("ETag", &etag.replace('"', "&quot;")),
    ] {
        assert!(xml.contains(&format!("<{tag}>{value}</{tag}>")), "{tag} in {xml}");
    }

    for (asked, status) in [("200", StatusCode::OK), ("204", StatusCode::NO_CONTENT), ("418", StatusCode::NO_CONTENT)] {
        let mut form = Form::new(bucket, KEY);
        form.conditions.push(json!(["starts-with", "$success_action_status", ""]));
        form.conditions.retain(|condition| *condition != json!(["eq", "$success_action_status", "201"]));
        let answer = form.set("success_action_status", asked).sign(&s3.keys().signer).send(&s3).await;
        assert_eq!(answer.status(), status, "{asked}");
        assert_eq!(answer.headers()["etag"], etag);
    }
}

#[tokio::test]
async fn the_forms_type_is_kept_and_not_that_of_the_file_part() {
    let (s3, bucket) = store_with_bucket().await;
    let form = Form::new(bucket, KEY).field("Cache-Control", "no-store").sign(&s3.keys().signer);
    assert_eq!(form.send(&s3).await.status(), StatusCode::CREATED);
    let head = send(&s3, &s3.keys().server, "HEAD", "/bucket/incoming/a").await;
    assert_eq!(head.headers()["content-type"], "image/png");
    assert_eq!(head.headers()["cache-control"], "no-store");
    assert_eq!(get(&s3, KEY).await.unwrap(), b"a picture");
}

#[tokio::test]
async fn the_size_range_holds_to_the_byte() {
    let (s3, bucket) = store_with_bucket().await;
    for (bytes, code) in
        [(0, "EntityTooSmall"), (1, ""), (100, ""), (101, "EntityTooLarge"), (3_000_000, "EntityTooLarge")]
    {
        let key = format!("incoming/{bytes}");
        let response = Form::new(bucket, &key).file(vec![b'x'; bytes]).sign(&s3.keys().signer).send(&s3).await;
        assert_eq!(refusal(response).await.1, code, "{bytes}");
        assert_eq!(get(&s3, &key).await.map(|stored| stored.len()), code.is_empty().then_some(bytes));
    }
}

#[tokio::test]
async fn a_form_that_breaks_its_policy_changes_nothing() {
    let (s3, bucket) = store_with_bucket().await;
    put(&s3, KEY, "what was there").await;
    let key = &s3.keys().signer;
    let signed = || Form::new(bucket, KEY).sign(key);
    let expired = Form { expires_at: Utc::now() - TimeDelta::seconds(1), ..Form::new(bucket, KEY) }.sign(key);
    let other_region = Form { region: "eu-west-1", ..Form::new(bucket, KEY) }.sign(key);
    let mut other_bucket = signed();
    other_bucket.bucket = "elsewhere".into();
    let mut widened = signed();
    widened.fields.retain(|(name, _)| name != "policy");
    let wide = json!({ "expiration": "2999-01-01T00:00:00.000Z", "conditions": widened.conditions });
    let widened = widened.set("policy", &BASE64_STANDARD.encode(wide.to_string()));
    let mut without_type = signed();
    without_type.fields.retain(|(name, _)| name != "Content-Type");
    let mut unsigned = signed();
    unsigned.fields.retain(|(name, _)| name != "x-amz-signature");
    let mut prefixed = Form::new(bucket, KEY);
    prefixed.conditions.push(json!(["starts-with", "$x-amz-meta-user", "alice/"]));
    let mut not_a_string = Form::new(bucket, KEY);
    not_a_string.conditions.push(json!({ "acl": 7 }));
    // MD5 and SHA-256 of something else.
    let sha256 = BASE64_STANDARD.encode(Sha256::digest("another picture"));

    let cases = [
        ("another key", signed().set("key", "incoming/b")),
        ("a second key after the first", {
            let mut form = signed();
            form.fields.push(("Key".into(), "incoming/b".into()));
            form
        }),
        ("another type", signed().set("Content-Type", "text/html")),
        ("no type", without_type),
        ("another status", signed().set("success_action_status", "200")),
        ("an unlisted field", signed().set("Cache-Control", "no-store")),
        ("an unlisted meta field", signed().set("x-amz-meta-a", "b")),
        ("an unlisted redirect", signed().set("success_action_redirect", "https://evil.example")),
        ("an unmet prefix", prefixed.set("x-amz-meta-user", "bob/1").sign(key)),
        ("a condition that is none", not_a_string.sign(key)),
        ("expired", expired),
        ("another region", other_region),
        ("another bucket in the form", signed().set("bucket", "elsewhere")),
        ("another bucket in the URL", other_bucket),
        ("a wider policy", widened),
        ("a policy that is no base64", signed().set("policy", "{}")),
        ("an altered signature", signed().set("x-amz-signature", &"0".repeat(64))),
        ("another credential", signed().set("x-amz-credential", "server/20260101/us-east-1/s3/aws4_request")),
        ("no signature", unsigned),
        ("a wrong checksum", Form::new(bucket, KEY).field("x-amz-checksum-sha256", &sha256).sign(key)),
    ];
    for (name, form) in cases {
        let (status, code) = refusal(form.send(&s3).await).await;
        assert!((400..500).contains(&status), "{name}: {status} {code}");
        assert_eq!(get(&s3, KEY).await.unwrap(), b"what was there", "{name}");
        assert_eq!(get(&s3, "incoming/b").await, None, "{name}");
    }

    let sha256 = BASE64_STANDARD.encode(Sha256::digest("a picture"));
    let right = Form::new(bucket, KEY).field("x-amz-checksum-sha256", &sha256).sign(key);
    assert_eq!(right.send(&s3).await.status(), StatusCode::CREATED);
    assert_eq!(get(&s3, KEY).await.unwrap(), b"a picture");
}

#[tokio::test]
async fn a_form_without_a_length_or_an_end_stores_nothing() {
    let (s3, bucket) = store_with_bucket().await;
    let url = format!("{}/{bucket}", s3.endpoint());
    let form = Form::new(bucket, KEY).sign(&s3.keys().signer);
    let mut body = String::new();
    for (name, value) in &form.fields {
        body.push_str(&format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"));
    }
    body.push_str("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\nhalf a pict");
    let post = |body: reqwest::Body| {
        client().post(&url).header("content-type", "multipart/form-data; boundary=b").body(body).send()
    };
    assert_eq!(refusal(post(body.clone().into()).await.unwrap()).await.0, 400);

    let whole = format!("{body}ure\r\n--b--\r\n");
    let chunked = futures::stream::iter([Ok::<_, std::io::Error>(whole.clone())]);
    let refused = post(reqwest::Body::wrap_stream(chunked)).await.unwrap();
    assert_eq!(refusal(refused).await, (411, "MissingContentLength".into()));
    assert_eq!(get(&s3, KEY).await, None);
    assert_eq!(post(whole.into()).await.unwrap().status(), StatusCode::CREATED);
}
