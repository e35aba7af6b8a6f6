//! The null sink as a process, used by the servers' own client and by clients with a form.

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use upload_bench::{record::Traffic, sink::SinkConnection};
use upload_domain::{ImageFormat, ImageId, incoming_key};
use upload_sandbox::{Sandbox, Stand, client::Client, samples};
use upload_storage::{FormRequest, Signer, SignerSettings, Storage, StorageSettings, bucket};
use uuid::Uuid;

const FILE_BYTES: usize = 5_000_000;
const HEAD_BYTES: usize = 256 * 1024;

async fn start() -> (Stand, SinkConnection) {
    let sandbox = Sandbox::shared().await;
    let binary = Path::new(env!("CARGO_BIN_EXE_upload-bench"));
    (sandbox.stand().await, SinkConnection::start(binary, sandbox).await.unwrap())
}

fn settings(stand: &Stand, sink: &SinkConnection) -> StorageSettings {
    StorageSettings { endpoint: sink.url.clone(), ..stand.storage_settings.clone() }
}

async fn storage(stand: &Stand, sink: &SinkConnection) -> Storage {
    Storage::new(&settings(stand, sink)).await.unwrap()
}

fn image() -> ImageId {
    ImageId::from(Uuid::now_v7())
}

fn request(image: ImageId, bytes: u64) -> FormRequest {
    let now = Utc::now();
    FormRequest {
        image,
        format: ImageFormat::Jpeg,
        min_bytes: bytes,
        max_bytes: bytes,
        checksum_sha256: None,
        now,
        expires_at: now + TimeDelta::minutes(5),
    }
}

/// A POST form and a presigned PUT, as a server's answer has them.
async fn forms(storage: &StorageSettings, signer: &SignerSettings, image: ImageId, bytes: usize) -> [Value; 2] {
    let signer = Signer::new(storage, signer).await.unwrap();
    let request = request(image, bytes as u64);
    let post = signer.post_form(&request).await.unwrap();
    let put = signer.put_form(&request).await.unwrap();
    let fields: BTreeMap<String, String> = post.fields.into_iter().collect();
    let headers: BTreeMap<String, String> = put.headers.into_iter().collect();
    [
        json!({ "method": "POST", "url": post.url, "fields": fields }),
        json!({ "method": "PUT", "url": put.url, "headers": headers }),
    ]
}

fn anonymous() -> Client {
    Client::anonymous("http://127.0.0.1:1").unwrap()
}

fn requests(traffic: &Traffic) -> Vec<(&str, u64)> {
    traffic.requests.iter().map(|(name, count)| (name.as_str(), *count)).collect()
}

#[tokio::test]
async fn the_servers_own_client_puts_reads_promotes_and_deletes() {
    let (stand, sink) = start().await;
    let storage = storage(&stand, &sink).await;
    let file: Bytes = samples::jpeg_of_exactly(FILE_BYTES, 1).into();

    assert!(bucket::look(&storage).await.unwrap().exists, "any bucket does");
    assert_eq!(storage.read_head("incoming/1", None, HEAD_BYTES).await.unwrap(), None);
    storage.put("incoming/1", "image/jpeg", file.clone()).await.unwrap();
    assert_eq!(sink.objects().await.unwrap(), (1, FILE_BYTES as u64));

    let head = storage.read_head("incoming/1", None, HEAD_BYTES).await.unwrap().unwrap();
    assert_eq!(head.bytes, file.slice(..HEAD_BYTES));
    assert_eq!((head.total_bytes, head.content_type.as_deref()), (FILE_BYTES as u64, Some("image/jpeg")));
    assert!(storage.promote("incoming/1", "media/1/1", "\"another\"", ImageFormat::Jpeg).await.is_err());
    storage.promote("incoming/1", "media/1/1", &head.etag, ImageFormat::Png).await.unwrap();
    storage.delete("incoming/1").await.unwrap();
    assert_eq!(storage.size("incoming/1").await.unwrap(), None);
    assert_eq!(storage.size("media/1/1").await.unwrap(), Some(FILE_BYTES as u64));
    let copy = storage.read_head("media/1/1", None, HEAD_BYTES).await.unwrap().unwrap();
    assert_eq!((copy.bytes, copy.content_type.as_deref()), (head.bytes, Some("image/png")));

    storage
        .put_buffered("media/2/1", ImageFormat::Jpeg, vec![file.slice(..1000), file.slice(1000..3000)])
        .await
        .unwrap();
    assert_eq!(storage.read("media/2/1").await.unwrap(), Some(file.slice(..3000)), "a small object is kept whole");
    storage.delete("media/1/1").await.unwrap();
    storage.delete("media/2/1").await.unwrap();
    assert_eq!(sink.objects().await.unwrap(), (0, 0));

    let counts = sink.counts().await.unwrap();
    let expected = [
        ("CopyObject", 2),
        ("DeleteObject", 3),
        ("GetObject", 4),
        ("HeadBucket", 1),
        ("HeadObject", 2),
        ("PutObject", 2),
    ];
    assert_eq!(requests(&counts["server"]), expected);
    let sent = counts["server"].bytes_to_store;
    assert!((FILE_BYTES as u64 + 3000..FILE_BYTES as u64 + 30_000).contains(&sent), "{sent}");
    assert!(counts["server"].bytes_from_store > 2 * HEAD_BYTES as u64);
    assert_eq!([&counts["signer"], &counts["reader"], &counts["other"]], [&Traffic::default(); 3]);

    sink.reset().await.unwrap();
    assert_eq!(sink.counts().await.unwrap()["server"], Traffic::default());
}

#[tokio::test]
async fn forms_of_every_size_end_as_objects_of_just_that_size() {
    let (stand, sink) = start().await;
    let storage = storage(&stand, &sink).await;
    let mut bytes = 0;
    for size in [1, 255, 4096, 65_536, 1_000_000, FILE_BYTES] {
        let file: Bytes = vec![b'-'; size].into();
        let image = image();
        for form in forms(&settings(&stand, &sink), &stand.signer_settings, image, size).await {
            let status = anonymous().upload(&form, file.clone()).await.unwrap().status;
            assert!((200..300).contains(&status), "{size}: {status}");
            assert_eq!(storage.size(&incoming_key(image)).await.unwrap(), Some(size as u64), "{}", form["method"]);
        }
        let head = storage.read_head(&incoming_key(image), None, HEAD_BYTES).await.unwrap().unwrap();
        assert_eq!(head.bytes, file.slice(..size.min(HEAD_BYTES)));
        bytes += size as u64;
    }
    assert_eq!(sink.objects().await.unwrap(), (6, bytes));
    assert_eq!(requests(&sink.counts().await.unwrap()["signer"]), [("PostObject", 6), ("PutObject", 6)]);
}

#[tokio::test]
async fn a_wrong_signature_is_refused_in_headers_in_queries_and_in_forms() {
    let (stand, sink) = start().await;
    let file: Bytes = samples::jpeg(8, 8).into();
    let wrong = || Some(SecretString::from("not the secret of this key"));

    let forger = StorageSettings { secret_access_key: wrong(), ..settings(&stand, &sink) };
    let forger = Storage::new(&forger).await.unwrap();
    let refused = forger.put("incoming/1", "image/jpeg", file.clone()).await.unwrap_err();
    assert!(format!("{refused:?}").contains("SignatureDoesNotMatch"), "{refused:?}");

    let forger = SignerSettings { secret_access_key: wrong(), ..stand.signer_settings.clone() };
    for form in forms(&settings(&stand, &sink), &forger, image(), file.len()).await {
        let answer = anonymous().upload(&form, file.clone()).await.unwrap();
        assert_eq!(answer.status, 403, "{}", form["method"]);
        assert!(String::from_utf8_lossy(&answer.body).contains("SignatureDoesNotMatch"));
    }

    // A right signature for something else.
    let [mut post, mut put] = forms(&settings(&stand, &sink), &stand.signer_settings, image(), file.len()).await;
    let [other, _] = forms(&settings(&stand, &sink), &stand.signer_settings, image(), file.len()).await;
    post["fields"]["policy"] = other["fields"]["policy"].clone();
    put["url"] = put["url"].as_str().unwrap().replace("/incoming/", "/media/").into();
    for form in [post, put] {
        assert_eq!(anonymous().upload(&form, file.clone()).await.unwrap().status, 403, "{}", form["method"]);
    }

    assert_eq!(sink.objects().await.unwrap(), (0, 0));
    let counts = sink.counts().await.unwrap();
    assert_eq!(requests(&counts["other"]), [("PostObject", 2), ("PutObject", 3)]);
    assert_eq!([&counts["server"], &counts["signer"]], [&Traffic::default(); 2]);
}

#[tokio::test]
async fn every_byte_of_a_connection_is_counted_with_its_heads() {
    let (_stand, sink) = start().await;
    let request = b"PUT /bucket/key HTTP/1.1\r\nHost: store\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
    let mut stream = TcpStream::connect(*sink.url.socket_addrs(|| None).unwrap().first().unwrap()).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 403 "), "{}", String::from_utf8_lossy(&answer));
    let other = sink.counts().await.unwrap().remove("other").unwrap();
    assert_eq!((other.bytes_to_store, other.bytes_from_store), (request.len() as u64, answer.len() as u64));
    assert_eq!(requests(&other), [("PutObject", 1)]);
}

#[tokio::test]
async fn the_embedded_store_runs_a_command_that_finds_it_in_its_environment() {
    let script = "test -d /proc/$SANDBOX_S3_PID && echo $S3_ENDPOINT $S3_READER_ACCESS_KEY_ID; exit 7";
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_upload-bench"))
        .args(["store", "--", "sh", "-c", script])
        .output()
        .await
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.starts_with("http://127.0.0.1:") && stdout.contains(" reader"), "{stdout}");
    assert_eq!(output.status.code(), Some(7));
}
