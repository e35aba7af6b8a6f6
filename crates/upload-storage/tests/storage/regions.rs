//! Put, form, link and read in another region than the usual one, with checksums wherever the SDK can add them.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, multipart::Form};
use secrecy::SecretString;
use upload_domain::{ImageFormat, incoming_key};
use upload_sandbox::s3::{EmbeddedS3, Key, REGION, S3Connection};
use upload_storage::{
    Addressing, ChecksumMode, FormRequest, KeyCheck, Pin, Signer, SignerSettings, Storage, StorageError,
    StorageSettings, bucket,
};

const ELSEWHERE: &str = "eu-central-1";

fn settings(connection: &S3Connection, key: &Key) -> StorageSettings {
    StorageSettings {
        endpoint: connection.endpoint.parse().unwrap(),
        public_endpoint: None,
        region: ELSEWHERE.to_owned(),
        bucket: "far-away".to_owned(),
        addressing: Addressing::Path,
        checksums: ChecksumMode::WhenSupported,
        access_key_id: Some(key.id.clone()),
        secret_access_key: Some(SecretString::from(key.secret.clone())),
        session_token: None,
        profile: None,
        reader_access_key_id: Some(connection.keys.reader.id.clone()),
        reader_secret_access_key: Some(SecretString::from(connection.keys.reader.secret.clone())),
        reader_session_token: None,
        reader_profile: None,
        allow_one_key: false,
        pin: Pin::Copy,
        key_check: KeyCheck::Off,
        media_public_base_url: None,
    }
}

#[tokio::test]
async fn a_bucket_in_another_region_works_with_checksums_everywhere() {
    let embedded = EmbeddedS3::start_in(ELSEWHERE).await.unwrap();
    let connection = embedded.connection();
    bucket::create(&Storage::new(&settings(connection, &connection.admin)).await.unwrap()).await.unwrap();
    let settings = settings(connection, &connection.keys.server);
    let storage = Storage::new(&settings).await.unwrap();
    let signer = SignerSettings {
        access_key_id: Some(connection.keys.signer.id.clone()),
        secret_access_key: Some(SecretString::from(connection.keys.signer.secret.clone())),
        session_token: None,
        profile: None,
    };
    let signer = Signer::new(&settings, &signer).await.unwrap();

    let file = Bytes::from_static(b"8 bytes!");
    let request = FormRequest { min_bytes: 8, max_bytes: 8, ..crate::forms::request() };
    let form = signer.post_form(&request).await.unwrap();
    let parts = form.fields.into_iter().fold(Form::new(), |parts, (name, value)| parts.text(name, value));
    let parts = parts.part("file", reqwest::multipart::Part::stream_with_length(file.clone(), 8).file_name("file"));
    let posted = Client::new().post(&form.url).multipart(parts).send().await.unwrap();
    assert_eq!(posted.status(), 201, "{}", posted.text().await.unwrap());

    let incoming = incoming_key(request.image);
    let head = storage.read_head(&incoming, None, 8).await.unwrap().unwrap();
    storage.promote(&incoming, "media/1/1", &head.etag, ImageFormat::Png).await.unwrap();
    storage.put("media/1/2", "image/png", file.clone()).await.unwrap();
    for key in ["media/1/1", "media/1/2"] {
        let read = storage.read_url(key, None, Duration::from_secs(60)).await.unwrap();
        assert!(read.url.contains("%2Feu-central-1%2Fs3%2F"), "{}", read.url);
        assert_eq!(Client::new().get(read.url).send().await.unwrap().bytes().await.unwrap(), file);
    }

    let wrong = Storage::new(&StorageSettings { region: REGION.to_owned(), ..settings }).await.unwrap();
    assert!(matches!(wrong.read_head(&incoming, None, 8).await, Err(StorageError::Refused(_))));
}
