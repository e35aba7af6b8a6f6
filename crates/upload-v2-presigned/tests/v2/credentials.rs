//! The sources of the three keys, and what happens to forms and reads when temporary credentials end. A container's endpoint and an STS
//! on this machine give out the stand's own keys, and the tests set when these end.

use std::{
    fs,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use futures::future::join_all;
use serde_json::{Value, json};
use upload_domain::Role;
use upload_sandbox::{Sandbox, client::Client, issuer::Issuer, process::Program, s3::Key, samples};
use url::Url;

use crate::BINARY;

/// How long a server may take to use changed credentials.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server logs this once, if it cannot refresh credentials before the old ones end.
const WARNING: &str = "the old ones are used until they expire";

fn wish(method: &str) -> Value {
    json!({ "path": "user-profile", "format": "image/png", "byteSize": png().len(), "method": method })
}

fn png() -> Vec<u8> {
    samples::png(64, 48, 5)
}

fn ends(form: &Value) -> DateTime<Utc> {
    form["expiresAt"].as_str().unwrap_or_default().parse().unwrap_or_default()
}

fn parameter(url: &str, name: &str) -> String {
    let url = Url::parse(url).unwrap();
    url.query_pairs().find(|(found, _)| found == name).unwrap_or_else(|| panic!("no {name} in {url}")).1.into_owned()
}

/// The end of a form or a URL, as it is signed.
fn ends_by_signature(form: &Value) -> DateTime<Utc> {
    if form["method"] == "PUT" {
        return ends_by_query(form["url"].as_str().unwrap());
    }
    let policy = BASE64_STANDARD.decode(form["fields"]["policy"].as_str().unwrap()).unwrap();
    let policy: Value = serde_json::from_slice(&policy).unwrap();
    policy["expiration"].as_str().unwrap().parse().unwrap()
}

fn ends_by_query(url: &str) -> DateTime<Utc> {
    let signed = chrono::NaiveDateTime::parse_from_str(&parameter(url, "X-Amz-Date"), "%Y%m%dT%H%M%SZ").unwrap();
    signed.and_utc() + TimeDelta::seconds(parameter(url, "X-Amz-Expires").parse().unwrap())
}

#[tokio::test]
async fn a_form_ends_with_the_credentials_that_signed_it_and_later_when_they_are_renewed() {
    let stand = Sandbox::shared().await.stand().await;
    let issuer = Issuer::start(&stand).await.unwrap();
    let soon = (Utc::now() + TimeDelta::seconds(120)).trunc_subsecs(0);
    issuer.set_end("signer", soon);
    let server = issuer.program(BINARY, &stand).serve().await.unwrap();
    let client = Client::new(&server.url, &stand.add_person(Role::User).await.unwrap().token).unwrap();

    for (method, stored) in [("POST", 201), ("PUT", 200)] {
        let created = client.post("/user/images", &wish(method)).await.unwrap().expect_status(201).unwrap();
        assert_eq!(created.form()["method"], method);
        assert_eq!((ends(created.form()), ends_by_signature(created.form())), (soon, soon), "{method}");
        assert_eq!(client.upload(created.form(), png()).await.unwrap().status, stored);
        assert_eq!(stand.storage.list(&format!("incoming/{}", created.image_id())).await.unwrap().len(), 1);
    }

    let (asked_before, later) = (issuer.asked("signer"), Utc::now() + TimeDelta::hours(1));
    issuer.set_end("signer", later);
    // Many requests at once, again and again, until the pause between two refreshes is over.
    repeat(async || {
        let wish = wish("POST");
        let round = join_all((0..16).map(|_| client.post("/user/images", &wish))).await;
        round.iter().all(|answer| ends(answer.as_ref().unwrap().form()) > soon)
    })
    .await;
    assert_eq!(issuer.asked("signer"), asked_before + 1, "one question for all of them");
    for method in ["POST", "PUT"] {
        let created = client.post("/user/images", &wish(method)).await.unwrap().expect_status(201).unwrap();
        let life = ends(created.form()) - Utc::now();
        assert!(life > TimeDelta::seconds(280) && life <= TimeDelta::seconds(300), "{method}: {life}");
        assert_eq!(ends(created.form()), ends_by_signature(created.form()), "{method}");
        let id = created.image_id();
        client.upload(created.form(), png()).await.unwrap();
        client.link_profile(id).await.unwrap().expect_status(201).unwrap();
        assert_eq!(client.download(id).await.unwrap().body, png());
    }
}

#[tokio::test]
async fn forms_and_reads_go_on_with_the_old_credentials_until_they_end_and_then_say_so() {
    let stand = Sandbox::shared().await.stand().await;
    let issuer = Issuer::start(&stand).await.unwrap();
    let in_minutes = (Utc::now() + TimeDelta::minutes(4)).trunc_subsecs(0);
    for role in ["server", "signer", "reader"] {
        issuer.set_end(role, in_minutes);
    }
    let server = issuer.program(BINARY, &stand).serve().await.unwrap();
    let client = Client::new(&server.url, &stand.add_person(Role::User).await.unwrap().token).unwrap();
    let created = client.post("/user/images", &wish("POST")).await.unwrap().expect_status(201).unwrap();
    let id = created.image_id();
    client.upload(created.form(), png()).await.unwrap();
    client.link_profile(id).await.unwrap().expect_status(201).unwrap();
    let pending = client.post("/user/images", &wish("POST")).await.unwrap().expect_status(201).unwrap();
    client.upload(pending.form(), png()).await.unwrap();

    // A redirect, and the time for which it may be cached, end before the credentials do.
    let read = client.get(&format!("/images/{id}")).await.unwrap().expect_status(302).unwrap();
    let asked = Utc::now();
    assert!(ends_by_query(read.header("location")) <= in_minutes);
    let kept: i64 = read.header("cache-control").strip_prefix("private, max-age=").unwrap().parse().unwrap();
    assert!(kept > 0 && asked + TimeDelta::seconds(kept) < in_minutes, "{kept}");

    // All three keys end sooner, and then are not renewed.
    let soon = (Utc::now() + TimeDelta::seconds(30)).trunc_subsecs(0);
    for role in ["server", "signer", "reader"] {
        issuer.set_end(role, soon);
    }
    let asked_before = ["server", "signer", "reader"].map(|role| (role, issuer.asked(role)));
    let empty = client.post("/user/images", &wish("POST")).await.unwrap().expect_status(201).unwrap();
    repeat(async || {
        client.post("/user/images", &wish("POST")).await.unwrap();
        client.get(&format!("/images/{id}")).await.unwrap();
        assert_eq!(client.link_profile(empty.image_id()).await.unwrap().refusal(), (409, "not_uploaded"));
        asked_before.iter().all(|(role, before)| issuer.asked(role) > *before)
    })
    .await;
    issuer.set_silent(true);

    let (mut forms, mut reads) = (0, 0);
    let warned = || server.log().iter().filter(|line| line.contains(WARNING)).count();
    repeat(async || {
        let form = client.post("/user/images", &wish("POST")).await.unwrap();
        let read = client.get(&format!("/images/{id}")).await.unwrap();
        if form.status == 201 && warned() >= 2 {
            assert_eq!((ends(form.form()), ends_by_signature(form.form())), (soon, soon));
            forms += 1;
        }
        if read.status == 302 && warned() >= 2 {
            assert!(ends_by_query(read.header("location")) <= soon);
            reads += 1;
        }
        form.status == 503 && read.status == 503
    })
    .await;
    assert!(forms > 0 && reads > 0, "{forms} forms and {reads} reads went on after {} warnings", warned());
    for refused in [
        client.post("/user/images", &wish("POST")).await.unwrap(),
        client.post("/user/images", &wish("PUT")).await.unwrap(),
        client.renew_form(pending.image_id()).await.unwrap(),
        client.get(&format!("/images/{id}")).await.unwrap(),
        client.link_profile(pending.image_id()).await.unwrap(),
    ] {
        assert_eq!(refused.refusal(), (503, "storage_unavailable"));
        assert!(refused.header("retry-after").parse::<u32>().is_ok(), "{refused:?}");
    }
    for origin in ["the AWS default chain", "S3_SIGNER_PROFILE", "S3_READER_PROFILE"] {
        let ended = format!("the credentials of {origin} have expired and were not refreshed");
        server.wait_for_log(|line| line.contains(&ended)).await.unwrap();
        let warnings = server.log().iter().filter(|line| line.contains(WARNING) && line.contains(origin)).count();
        assert!(warnings <= 1, "{origin}: {warnings} warnings");
    }

    for role in ["server", "signer", "reader"] {
        issuer.set_end(role, Utc::now() + TimeDelta::hours(1));
    }
    issuer.set_silent(false);
    repeat(async || client.post("/user/images", &wish("POST")).await.unwrap().status == 201).await;
    repeat(async || client.link_profile(pending.image_id()).await.unwrap().status == 201).await;
    repeat(async || client.get(&format!("/images/{}", pending.image_id())).await.unwrap().status == 302).await;
    assert_eq!(client.download(pending.image_id()).await.unwrap().body, png());
}

#[tokio::test]
async fn three_profiles_of_a_credentials_file_serve_as_three_keys() {
    let stand = Sandbox::shared().await.stand().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    let profiles = stand.keys().map(|(role, key)| {
        let token = key.session_token.map(|token| format!("aws_session_token = {token}\n")).unwrap_or_default();
        format!("[upload-{role}]\naws_access_key_id = {}\naws_secret_access_key = {}\n{token}\n", key.id, key.secret)
    });
    fs::write(&file, profiles.concat()).unwrap();
    let server = with_profiles(Program::new(BINARY, &stand))
        .env("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap())
        .serve()
        .await
        .unwrap();
    let client = Client::new(&server.url, &stand.add_person(Role::User).await.unwrap().token).unwrap();
    for method in ["POST", "PUT"] {
        let created = client.post("/user/images", &wish(method)).await.unwrap().expect_status(201).unwrap();
        client.upload(created.form(), png()).await.unwrap();
        client.link_profile(created.image_id()).await.unwrap().expect_status(201).unwrap();
        assert_eq!(client.download(created.image_id()).await.unwrap().body, png());
    }
}

#[tokio::test]
async fn the_profiles_that_the_documents_print_take_roles_with_a_containers_credentials() {
    let document = include_str!("../../../../docs/OPERATIONS.md");
    let (_before, profiles) = document.split_once("```ini\n").unwrap();
    let (profiles, _after) = profiles.split_once("```").unwrap();
    assert_eq!(profiles.matches("credential_source = EcsContainer").count(), 2, "{profiles}");
    let stand = Sandbox::shared().await.stand().await;
    let issuer = Issuer::start(&stand).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    fs::write(&file, profiles).unwrap();
    let server = issuer.program(BINARY, &stand).env("AWS_CONFIG_FILE", file.to_str().unwrap()).serve().await.unwrap();
    for role in ["server", "signer", "reader"] {
        assert!(issuer.asked(role) > 0, "{role}");
    }
    let client = Client::new(&server.url, &stand.add_person(Role::User).await.unwrap().token).unwrap();
    let created = client.post("/user/images", &wish("POST")).await.unwrap().expect_status(201).unwrap();
    client.upload(created.form(), png()).await.unwrap().expect_status(201).unwrap();
    client.link_profile(created.image_id()).await.unwrap().expect_status(201).unwrap();
    assert_eq!(client.download(created.image_id()).await.unwrap().body, png());
}

#[tokio::test]
async fn a_source_without_credentials_ends_the_process_with_code_2_and_a_sentence() {
    let stand = Sandbox::shared().await.stand().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    let [(_, server), (_, signer), (_, reader)] = stand.keys();
    let profile = |name: &str, key: &Key| {
        format!("[{name}]\naws_access_key_id = {}\naws_secret_access_key = {}\n\n", key.id, key.secret)
    };
    // The SDK would warn of a name that is not valid here.
    let half =
        format!("[half]\naws_access_key_id = {}\n\n[empty]\nregion = us-east-1\n\n[profile x]\na = b\n", signer.id);
    let names = [("upload-server", &server), ("upload-signer", &signer), ("upload-reader", &reader)];
    fs::write(&file, names.map(|(name, key)| profile(name, key)).concat() + &half).unwrap();
    let program =
        || with_profiles(Program::new(BINARY, &stand)).env("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap());
    let dead = Issuer::start(&stand).await.unwrap();
    dead.set_silent(true);
    let late = Issuer::start(&stand).await.unwrap();
    late.set_end("signer", Utc::now() - TimeDelta::seconds(1));

    let table: [(&str, Program, &[&str]); 11] = [
        (
            "a profile that is not there",
            program().env("S3_SIGNER_PROFILE", "nobody"),
            &["S3_SIGNER_PROFILE gives no credentials", "nobody", "S3_SIGNER_ACCESS_KEY_ID"],
        ),
        (
            "a profile with nothing in it",
            program().env("S3_READER_PROFILE", "empty"),
            &["S3_READER_PROFILE gives no credentials", "S3_READER_ACCESS_KEY_ID"],
        ),
        (
            "a profile with half a key",
            program().env("S3_PROFILE", "half"),
            &["S3_PROFILE gives no credentials", "S3_ACCESS_KEY_ID"],
        ),
        (
            "a file that is not there",
            program().env("AWS_SHARED_CREDENTIALS_FILE", "/nowhere"),
            &["S3_PROFILE gives no credentials"],
        ),
        (
            "nothing at all",
            program().without("S3_PROFILE").without("AWS_SHARED_CREDENTIALS_FILE"),
            &["the AWS default chain gives no credentials", "S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, or S3_PROFILE"],
        ),
        (
            "no signer",
            program().without("S3_SIGNER_PROFILE"),
            &["set S3_SIGNER_ACCESS_KEY_ID and S3_SIGNER_SECRET_ACCESS_KEY, or S3_SIGNER_PROFILE"],
        ),
        (
            "a key beside a profile",
            program().env("S3_ACCESS_KEY_ID", &server.id),
            &["S3_ACCESS_KEY_ID and S3_PROFILE must not both be set"],
        ),
        (
            "half a signer's key",
            program().without("S3_SIGNER_PROFILE").env("S3_SIGNER_SECRET_ACCESS_KEY", &signer.secret),
            &["S3_SIGNER_ACCESS_KEY_ID must be set, because S3_SIGNER_SECRET_ACCESS_KEY is set"],
        ),
        (
            "one profile in two roles",
            program().env("S3_SIGNER_PROFILE", "upload-reader"),
            &["S3_READER_PROFILE and S3_SIGNER_PROFILE must name different keys", "S3_ALLOW_ONE_KEY"],
        ),
        ("sources that are silent", dead.program(BINARY, &stand), &["gives no credentials"]),
        (
            "credentials that have ended",
            late.program(BINARY, &stand),
            &["S3_SIGNER_PROFILE gives no credentials", "have already expired"],
        ),
    ];
    for (case, program, expected) in table {
        let ended = program.run().await.unwrap();
        let told = format!("{case}: {}", ended.stderr);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{told}");
        assert_eq!(ended.stderr.lines().count(), 1, "{told}");
        assert!(expected.iter().all(|part| ended.stderr.contains(part)), "{told} lacks {expected:?}");
        for key in [&server, &signer, &reader] {
            assert!(!ended.stderr.contains(&key.secret) && !ended.stderr.contains(&key.id), "{told}");
        }
    }
}

#[tokio::test]
async fn sources_that_never_answer_are_asked_at_once_and_given_up_together() {
    let stand = Sandbox::shared().await.stand().await;
    let issuer = Issuer::start(&stand).await.unwrap();
    issuer.set_mute();
    let ended = issuer.program(BINARY, &stand).run().await.unwrap();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{}", ended.stderr);
    assert!(ended.stderr.lines().count() == 1 && ended.stderr.contains("gives no credentials"), "{}", ended.stderr);
    // If the server asked one after the other, the first failure would end the process before the next question.
    for role in ["server", "signer", "reader"] {
        assert!(issuer.asked(role) > 0, "{role}: {}", ended.stderr);
    }
}

/// Removes the keys of the stand's environment, and names profiles instead.
fn with_profiles(mut program: Program) -> Program {
    for prefix in ["S3_", "S3_SIGNER_", "S3_READER_"] {
        for suffix in ["ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"] {
            program = program.without(&format!("{prefix}{suffix}"));
        }
    }
    let program = program.env("S3_PROFILE", "upload-server");
    program.env("S3_SIGNER_PROFILE", "upload-signer").env("S3_READER_PROFILE", "upload-reader")
}

/// Repeats something until it is done, because a change of credentials is not visible from outside.
async fn repeat(mut done: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !done().await {
        assert!(begun.elapsed() < PATIENCE, "it takes longer than {PATIENCE:?}");
    }
}
