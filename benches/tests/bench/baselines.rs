//! Each target starts with a stand, takes an image and stores it.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
};

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use upload_bench::{
    record::Target,
    sink::SinkConnection,
    stage::{Stage, Started},
};
use upload_domain::{ImageFormat, ImageId, ImagePath, Role};
use upload_sandbox::{Sandbox, Stand, client::Client, samples};
use upload_storage::{FormRequest, Signer, StorageSettings};
use uuid::Uuid;

use crate::not_tested;

const FILE_BYTES: usize = 1_000_000;
static SERVERS: OnceCell<PathBuf> = OnceCell::const_new();

/// The folder with our servers. When the tests of the whole workspace run, cargo has already built them.
///
/// The command names all packages and a test, so that cargo selects the same features of the dependencies.
async fn servers() -> PathBuf {
    let bench = Path::new(env!("CARGO_BIN_EXE_upload-bench"));
    let profile = bench.parent().and_then(Path::file_name).and_then(OsStr::to_str).unwrap();
    let mut build = tokio::process::Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--locked", "--workspace", "--test", "bench", "--message-format", "json-render-diagnostics"]);
    build.args(["--bin", "upload-v1-streaming", "--bin", "upload-v2-presigned"]);
    build.args(["--profile", if profile == "debug" { "dev" } else { profile }]);
    build.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let built = build.output().await.unwrap();
    assert!(built.status.success(), "cargo cannot build the servers");
    let messages = String::from_utf8(built.stdout).unwrap();
    let mut executables = messages.lines().filter_map(|message| {
        let message: Value = serde_json::from_str(message).unwrap();
        message["executable"].as_str().map(PathBuf::from)
    });
    let server = executables.find(|path| path.file_name().is_some_and(|name| name == "upload-v1-streaming")).unwrap();
    server.parent().unwrap().to_owned()
}

/// The target on a stand, unless its program is missing.
async fn start(target: Target, stand: &Stand, sink: Option<&SinkConnection>) -> Option<Started> {
    let ours = !matches!(target, Target::Nginx | Target::Nginx128k | Target::NodeV1 | Target::NodeV2);
    let binaries = if ours { Some(SERVERS.get_or_init(servers).await) } else { None };
    let stage = Stage::prepare(binaries.map(PathBuf::as_path), &[target]).await.unwrap();
    if let Some(reason) = stage.missing(target) {
        assert!(reason.ends_with("is not installed"), "{reason}");
        not_tested(&reason);
        return None;
    }
    Some(stage.start(target, stand, sink).await.unwrap())
}

async fn sink() -> SinkConnection {
    let binary = Path::new(env!("CARGO_BIN_EXE_upload-bench"));
    SinkConnection::start(binary, Sandbox::shared().await).await.unwrap()
}

fn file() -> Bytes {
    samples::jpeg_of_exactly(FILE_BYTES, 1).into()
}

fn url(started: &Started) -> &str {
    started.url.as_ref().unwrap().as_str().trim_end_matches('/')
}

async fn sizes(stand: &Stand, prefix: &str) -> Vec<Option<u64>> {
    let mut sizes = Vec::new();
    for key in stand.storage.list(prefix).await.unwrap() {
        sizes.push(stand.storage.size(&key).await.unwrap());
    }
    sizes
}

#[tokio::test]
async fn nodes_v1_takes_a_file_and_stores_it() {
    let stand = Sandbox::shared().await.stand().await;
    let Some(started) = start(Target::NodeV1, &stand, None).await else { return };
    let length = FILE_BYTES as u64;
    let part = Part::stream_with_length(file(), length).file_name("image.jpg").mime_str("image/jpeg").unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.post(format!("{}/upload", url(&started))).multipart(Form::new().part("file", part));
    assert_eq!(answer.send().await.unwrap().status(), 201);
    assert_eq!(sizes(&stand, "media/").await, [Some(FILE_BYTES as u64)]);
    assert_eq!(stand.count("node_image WHERE key LIKE 'media/%'").await.unwrap(), 1);
}

#[tokio::test]
async fn nodes_v2_answers_a_form_that_our_client_can_use() {
    let stand = Sandbox::shared().await.stand().await;
    let Some(started) = start(Target::NodeV2, &stand, None).await else { return };
    let client = Client::anonymous(url(&started)).unwrap();
    client.create_and_upload(ImagePath::UserProfile, ImageFormat::Jpeg, file()).await.unwrap();
    assert_eq!(sizes(&stand, "incoming/").await, [Some(FILE_BYTES as u64)]);
    assert_eq!(stand.count("node_image WHERE key LIKE 'incoming/%'").await.unwrap(), 1);
}

#[tokio::test]
async fn node_works_with_the_null_sink_too() {
    let stand = Sandbox::shared().await.stand().await;
    let sink = sink().await;
    let Some(v1) = start(Target::NodeV1, &stand, Some(&sink)).await else { return };
    let Some(v2) = start(Target::NodeV2, &stand, Some(&sink)).await else { return };
    let part = Part::bytes(file().to_vec()).file_name("image.jpg").mime_str("image/jpeg").unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.post(format!("{}/upload", url(&v1))).multipart(Form::new().part("file", part));
    assert_eq!(answer.send().await.unwrap().status(), 201);
    let client = Client::anonymous(url(&v2)).unwrap();
    client.create_and_upload(ImagePath::UserProfile, ImageFormat::Jpeg, file()).await.unwrap();
    assert_eq!(sink.objects().await.unwrap(), (2, 2 * FILE_BYTES as u64));
}

#[tokio::test]
async fn nginx_relays_forms_to_the_store_with_small_and_large_buffers() {
    let stand = Sandbox::shared().await.stand().await;
    for target in [Target::Nginx, Target::Nginx128k] {
        let Some(nginx) = start(target, &stand, None).await else { return };
        // V2's forms, with nginx in the store's place.
        let public_endpoint = nginx.url.clone();
        let settings = StorageSettings { public_endpoint, ..stand.storage_settings.clone() };
        let signer = Signer::new(&settings, &stand.signer_settings).await.unwrap();
        let now = Utc::now();
        let request = FormRequest {
            image: ImageId::from(Uuid::now_v7()),
            format: ImageFormat::Jpeg,
            min_bytes: 1,
            max_bytes: FILE_BYTES as u64,
            checksum_sha256: None,
            now,
            expires_at: now + TimeDelta::minutes(5),
        };
        let post = signer.post_form(&request).await.unwrap();
        let fields: BTreeMap<_, _> = post.fields.into_iter().collect();
        let form = json!({ "method": "POST", "url": post.url, "fields": fields });
        let client = Client::anonymous(url(&nginx)).unwrap();
        client.upload(&form, file()).await.unwrap().expect_status(201).unwrap();
    }
    assert_eq!(sizes(&stand, "incoming/").await, [Some(FILE_BYTES as u64); 2]);
}

#[tokio::test]
async fn v1_links_images_behind_an_nginx_that_buffers_them() {
    let stand = Sandbox::shared().await.stand().await;
    let Some(started) = start(Target::V1Buffered, &stand, None).await else { return };
    let person = stand.add_person(Role::User).await.unwrap();
    let client = Client::new(url(&started), &person.token).unwrap();
    let image = client.create_image(ImagePath::UserProfile, ImageFormat::Jpeg).await.unwrap();
    assert!(image.form()["url"].as_str().unwrap().starts_with(url(&started)), "{image:?}");
    client.upload(image.form(), file()).await.unwrap().expect_status(201).unwrap();
    client.link_profile(image.image_id()).await.unwrap().expect_status(201).unwrap();
    assert_eq!(sizes(&stand, "media/").await, [Some(FILE_BYTES as u64)]);
}

#[tokio::test]
async fn v2_pins_a_version_without_a_copy() {
    let stand = Sandbox::shared().await.stand().await;
    let Some(started) = start(Target::V2Version, &stand, None).await else { return };
    let person = stand.add_person(Role::User).await.unwrap();
    let client = Client::new(url(&started), &person.token).unwrap();
    let image = client.create_and_upload(ImagePath::UserProfile, ImageFormat::Jpeg, file()).await.unwrap();
    client.link_profile(&image).await.unwrap().expect_status(201).unwrap();
    assert_eq!(sizes(&stand, "").await, [Some(FILE_BYTES as u64)]);
    assert_eq!(stand.count("image WHERE linked_at IS NOT NULL AND media_version IS NOT NULL").await.unwrap(), 1);
}

#[tokio::test]
async fn our_servers_link_images_in_front_of_the_store_and_of_the_null_sink() {
    let stand = Sandbox::shared().await.stand().await;
    let sink = sink().await;
    for target in [Target::V1, Target::V2Post] {
        for store in [None, Some(&sink)] {
            let Some(started) = start(target, &stand, store).await else { return };
            let person = stand.add_person(Role::User).await.unwrap();
            let client = Client::new(url(&started), &person.token).unwrap();
            let process = started.process.unwrap();
            process.reset().unwrap();
            let image = client.create_and_upload(ImagePath::UserProfile, ImageFormat::Jpeg, file()).await.unwrap();
            client.link_profile(&image).await.unwrap().expect_status(201).unwrap();
            assert_eq!(process.log(), Vec::<String>::new(), "nothing to warn of");
            // A server may still work after its answer; it has finished when it stops.
            let usage = process.finish(true).await.unwrap();
            assert!(usage.cpu_user_ms + usage.cpu_system_ms > 0.0 && usage.peak_rss_bytes > 0, "{usage:?}");
            assert!(!usage.memory.is_empty(), "{usage:?}");
        }
    }
    assert_eq!(sizes(&stand, "").await, [Some(FILE_BYTES as u64); 2]);
    assert_eq!(sink.objects().await.unwrap(), (2, 2 * FILE_BYTES as u64));
    let traffic = sink.counts().await.unwrap();
    assert!(traffic["server"].bytes_to_store > FILE_BYTES as u64, "V1 carries the bytes: {traffic:?}");
    assert!(traffic["signer"].bytes_to_store > FILE_BYTES as u64, "V2's clients carry them: {traffic:?}");
    assert_eq!(traffic["server"].requests["CopyObject"], 1, "{traffic:?}");
}
