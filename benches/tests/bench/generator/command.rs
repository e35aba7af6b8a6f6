//! `upload-bench load` as a process: what it prints, and how it ends.

use std::{
    future::pending,
    process::{Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use secrecy::ExposeSecret as _;
use tokio::process::Command;
use upload_bench::record::Load;
use upload_sandbox::{Sandbox, port};

use super::{
    failures,
    server::{Arrived, Server, uploaded},
};

fn load(server: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_upload-bench"));
    command.args(["load", "--server", server, "--size", "20000", "--token", "t", "--json"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn printed(output: &Output) -> Load {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(output)))
}

/// Answers the first three requests, and no more.
async fn stopping_server() -> Server {
    Server::start(|arrived: Arrived| async move {
        let number = arrived.number;
        arrived.arrivals(8).await;
        if number > 3 {
            pending::<()>().await;
        }
        arrived.read().await?;
        Ok(uploaded(number))
    })
    .await
}

#[tokio::test]
async fn what_was_measured_is_printed_as_json() {
    let server = Server::of_images(None).await;
    let output = load(server.url.as_str(), &["--target", "v2-post", "--images", "6"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let load = printed(&output);
    assert_eq!((load.successes, load.requests, load.bytes_to_server), (6, 18, server.bytes_read()));
    assert!(server.read("/user/images").iter().all(|read| read.headers["authorization"] == "Bearer t"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_one_sentence_and_exit_code_1() {
    let server = format!("http://127.0.0.1:{}", port::reserve().unwrap());
    let output = load(&server, &["--target", "v1"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.starts_with(&format!("upload-bench: cannot connect to {server}/")), "{said}");
    assert_eq!((said.lines().count(), output.stdout.len()), (1, 0));
}

#[tokio::test]
async fn ctrl_c_prints_what_was_measured_so_far() {
    let server = stopping_server().await;
    let running = load(server.url.as_str(), &["--target", "v1-stream", "--images", "8"]).spawn().unwrap();
    server.has_received(8).await;
    kill(Pid::from_raw(running.id().unwrap().try_into().unwrap()), Signal::SIGINT).unwrap();
    let output = running.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let load = printed(&output);
    assert_eq!(load.successes + load.failures["given up"], 8);
    assert!(load.failures["given up"] >= 5);
}

#[tokio::test]
async fn a_server_that_stops_is_given_up() {
    let server = stopping_server().await;
    let arguments = ["--target", "v1-stream", "--images", "8", "--give-up", "1"];
    let output = load(server.url.as_str(), &arguments).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!((printed(&output).successes, printed(&output).failures), (3, failures([("given up", 5)])));
    assert!(stderr(&output).contains("without progress"), "{}", stderr(&output));
}

#[tokio::test]
async fn forms_for_the_store_itself_are_signed_with_the_environments_key() {
    let stand = Sandbox::shared().await.stand().await;
    let (storage, signer) = (&stand.storage_settings, &stand.signer_settings);
    let direct = || load(storage.endpoint.as_str(), &["--target", "direct", "--images", "4"]);
    let mut command = direct();
    command.env("S3_ENDPOINT", storage.endpoint.as_str()).env("S3_BUCKET", &storage.bucket);
    command.env("S3_REGION", &storage.region);
    command.env("S3_SIGNER_ACCESS_KEY_ID", signer.access_key_id.as_ref().unwrap());
    command.env("S3_SIGNER_SECRET_ACCESS_KEY", signer.secret_access_key.as_ref().unwrap().expose_secret());
    if let Some(token) = &signer.session_token {
        command.env("S3_SIGNER_SESSION_TOKEN", token.expose_secret());
    }
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!((printed(&output).successes, stand.admin.list("incoming/").await.unwrap().len()), (4, 4));

    let output = direct().env_remove("S3_BUCKET").output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output);
    assert!(told.contains("--s3-bucket"), "{told}");
}
