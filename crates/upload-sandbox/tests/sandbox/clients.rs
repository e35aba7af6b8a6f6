use chrono::{Duration, Utc};
use serde_json::{Map, Value, json};
use upload_domain::{ImageFormat, ImageId, incoming_key};
use upload_sandbox::{Sandbox, client::Client, samples};
use upload_storage::{FormRequest, Signer};
use uuid::Uuid;

fn request(image: ImageId, bytes: u64) -> FormRequest {
    FormRequest {
        image,
        format: ImageFormat::Jpeg,
        min_bytes: bytes,
        max_bytes: bytes,
        checksum_sha256: None,
        now: Utc::now(),
        expires_at: Utc::now() + Duration::minutes(5),
    }
}

fn object(pairs: Vec<(String, String)>) -> Value {
    Value::Object(pairs.into_iter().map(|(name, value)| (name, Value::String(value))).collect::<Map<_, _>>())
}

#[tokio::test]
async fn the_client_uploads_as_the_form_says_be_it_post_or_put() {
    let stand = Sandbox::shared().await.stand().await;
    let signer = Signer::new(&stand.storage_settings, &stand.signer_settings).await.unwrap();
    let client = Client::anonymous("http://127.0.0.1:1").unwrap();
    let file = samples::jpeg_of_exactly(70_000, 1);
    let (posted, put) = (ImageId::from(Uuid::now_v7()), ImageId::from(Uuid::now_v7()));

    let post_form = signer.post_form(&request(posted, 70_000)).await.unwrap();
    let post_form = json!({ "method": "POST", "url": post_form.url, "fields": object(post_form.fields) });
    let put_form = signer.put_form(&request(put, 70_000)).await.unwrap();
    let put_form = json!({ "method": "PUT", "url": put_form.url, "headers": object(put_form.headers) });

    for (image, form) in [(posted, post_form), (put, put_form)] {
        let answer = client.upload(&form, file.clone()).await.unwrap();
        assert!((200..300).contains(&answer.status), "{answer:?}");
        let stored = stand.storage.read(&incoming_key(image)).await.unwrap().unwrap();
        assert!(stored == file, "other bytes were stored by {}", form["method"]);
    }
    if let Some(traffic) = stand.traffic() {
        assert!(traffic.borrow().received_bytes >= 140_000);
    }
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_a_server_that_is_not_there_is_an_error() {
    let stand = Sandbox::shared().await.stand().await;
    let signer = Signer::new(&stand.storage_settings, &stand.signer_settings).await.unwrap();
    let client = Client::anonymous("http://127.0.0.1:1").unwrap();
    let image = ImageId::from(Uuid::now_v7());
    let form = signer.post_form(&request(image, 1_000)).await.unwrap();
    let form = json!({ "method": "POST", "url": form.url, "fields": object(form.fields) });
    let answer = client.upload(&form, samples::jpeg_of_exactly(1_001, 1)).await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.clone().expect_status(204).is_err());
    assert_eq!(stand.storage.size(&incoming_key(image)).await.unwrap(), None);
    assert!(client.limits().await.is_err());
}
