//! What a server reports about itself to its clients and its operators.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use upload_domain::{ImageFormat, ImageLimits, ImagePath, Timing};
use upload_sandbox::{
    client::{Answer, Client},
    relay::{Mode, Relay},
    s3::grant,
};
use upload_storage::bucket;

use super::subject::{Kept, Strategy, Subject, assert_refused, names, picture, text};

/// How long a server may take to notice the state of its database and store.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn limits_are_what_was_set(subject: &mut Subject) -> Result<()> {
    let strategy = if subject.strategy == Strategy::Streaming { "streaming" } else { "presigned" };
    let limits = subject.anybody()?.limits().await?.expect_status(200)?;
    let (defaults, timing) = (ImageLimits::default(), Timing::default());
    let expected = json!({
        "strategy": strategy,
        "formMethods": match subject.strategy {
            Strategy::Streaming => json!(["POST"]),
            Strategy::Presigned => json!(["POST", "PUT"]),
        },
        "formats": ImageFormat::ALL,
        "maxImageBytes": defaults.max_image_bytes,
        "maxWidth": defaults.max_width,
        "maxHeight": defaults.max_height,
        "maxPixels": defaults.max_pixels,
        "formTtlSeconds": timing.form_ttl.as_secs(),
        "pendingTtlSeconds": timing.pending_ttl.as_secs(),
    });
    assert_eq!(limits.json, expected);

    let set = [
        ("MAX_IMAGE_BYTES", "100000"),
        ("MAX_WIDTH", "20"),
        ("MAX_HEIGHT", "30"),
        ("MAX_PIXELS", "400"),
        ("FORM_TTL", "60"),
        ("PENDING_TTL", "600"),
    ];
    subject.add_server(&set).await?;
    let limits = subject.anybody()?.limits().await?.expect_status(200)?;
    let numbers = ["maxImageBytes", "maxWidth", "maxHeight", "maxPixels", "formTtlSeconds", "pendingTtlSeconds"];
    for (name, (_variable, value)) in numbers.iter().zip(set) {
        assert_eq!(limits.json[*name].to_string(), value, "{name}");
    }
    // And they hold.
    let user = subject.user().await?;
    for (width, height, fits) in [(20, 20, true), (13, 30, true), (21, 1, false), (1, 31, false), (20, 21, false)] {
        let created = user.create_image(ImagePath::UserProfile, ImageFormat::Png).await?.expect_status(201)?;
        user.upload(created.form(), upload_sandbox::samples::png(width, height, 1)).await?;
        let linked = user.link_profile(created.image_id()).await?;
        match fits {
            true => assert_eq!(linked.status, 201, "{width} x {height}: {}", linked.json),
            false => assert_refused(&format!("{width} x {height}"), &linked, (422, "image_too_large")),
        }
    }
    Ok(())
}

pub(super) async fn health_says_what_fails(subject: &mut Subject) -> Result<()> {
    let healthy = subject.anybody()?;
    let live = healthy.get("/health/live").await?.expect_status(200)?;
    assert_eq!(live.json["status"], "live");
    let ready = healthy.get("/health/ready").await?.expect_status(200)?;
    let checks = json!({ "server": "ok", "postgres": "ok", "schema": "ok", "store": "ok", "clocks": "ok" });
    assert_eq!(ready.json, json!({ "status": "ready", "checks": checks }));

    bucket::empty_and_remove(&subject.stand.admin).await?;
    let ready = until_ready_says(&healthy, 503).await?;
    assert_eq!(ready.json["status"], "unavailable");
    assert_eq!(ready.json["checks"]["store"], "bucket missing");
    assert_eq!(not_ok(&ready), ["store"]);
    assert!(!ready.header("retry-after").is_empty());
    healthy.get("/health/live").await?.expect_status(200)?;
    bucket::create(&subject.stand.admin).await?;
    grant(subject.stand.bucket()).await?;
    until_ready_says(&healthy, 200).await.context("it recovers by itself")?;

    let environment = subject.stand.environment();
    // Without the database, neither schema nor clock is known.
    let parts = [("DATABASE_URL", &["clocks", "postgres", "schema"][..]), ("S3_ENDPOINT", &["clocks", "store"])];
    for (variable, expected) in parts {
        let (url, relay) = Relay::before(&environment[variable]).await?;
        subject.add_server(&[(variable, &url)]).await?;
        let ill = subject.anybody()?;
        ill.get("/health/ready").await?.expect_status(200)?;
        relay.set(Mode::Down);
        let ready = until_ready_says(&ill, 503).await?;
        assert_eq!(not_ok(&ready), expected, "{}", ready.json);
        assert_eq!(ready.json["checks"]["clocks"], "unknown");
        ill.get("/health/live").await?.expect_status(200)?;
        relay.set(Mode::Pass);
        until_ready_says(&ill, 200).await.context("it recovers by itself")?;
    }
    Ok(())
}

/// Anyone may ask as often as they like. The server looks at the store once a second, with one look at a time.
pub(super) async fn asking_for_readiness_often_costs_the_store_nothing(subject: &mut Subject) -> Result<()> {
    // The traffic of a real store cannot be watched.
    let traffic = subject.stand.traffic();
    let requests = || traffic.as_ref().map_or(0, |traffic| traffic.borrow().requests);
    let client = subject.anybody()?;
    let (begun, before) = (Instant::now(), requests());
    for answer in join_all((0..200).map(|_| client.get("/health/ready"))).await {
        answer?.expect_status(200)?;
    }
    let looks = requests() - before;
    assert!(looks <= begun.elapsed().as_secs() + 2, "{looks} looks in {:?}", begun.elapsed());
    Ok(())
}

/// A migration that the binary does not know, and one that it lacks.
pub(super) async fn a_running_server_whose_schema_moves_is_not_ready(subject: &mut Subject) -> Result<()> {
    let healthy = subject.anybody()?;
    let table = "__diesel_schema_migrations";
    let newest = subject.value(&format!("SELECT max(version) FROM {table}")).await?.context("a version")?;
    let newer = format!("INSERT INTO {table} (version) VALUES ('99991231000000')");
    let older = format!("DELETE FROM {table} WHERE version IN ('{newest}', '99991231000000')");
    for (sql, word, version) in [(newer, "newer", "99991231000000"), (older, "older", newest.as_str())] {
        subject.stand.sql(&sql).await?;
        let ready = loop_until(&healthy, |ready| text(&ready.json["checks"]["schema"]).starts_with(word)).await?;
        let ready = ready.expect_status(503)?;
        assert_eq!(not_ok(&ready), ["schema"], "{}", ready.json);
        assert!(text(&ready.json["checks"]["schema"]).contains(version), "{}", ready.json);
    }
    subject.stand.sql(&format!("INSERT INTO {table} (version) VALUES ('{newest}')")).await?;
    until_ready_says(&healthy, 200).await?;
    Ok(())
}

/// The server repeats its last result for a second, so this asks again and again, each time with a new request.
pub(super) async fn until_ready_says(client: &Client, status: u16) -> Result<Answer> {
    loop_until(client, |ready| ready.status == status).await
}

pub(super) async fn loop_until(client: &Client, mut found: impl FnMut(&Answer) -> bool) -> Result<Answer> {
    let asking = async {
        loop {
            let ready = client.get("/health/ready").await?;
            if found(&ready) {
                return anyhow::Ok(ready);
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.context("readiness does not say what is waited for")?
}

/// The checks that are not ok.
pub(super) fn not_ok(ready: &Answer) -> Vec<&str> {
    let checks = ready.json["checks"].as_object();
    let mut ill: Vec<&str> = checks
        .into_iter()
        .flatten()
        .filter(|(_name, state)| *state != "ok")
        .map(|(name, _state)| name.as_str())
        .collect();
    ill.sort_unstable();
    ill
}

pub(super) async fn metrics_count_without_what_clients_chose(subject: &mut Subject) -> Result<()> {
    let (user, anybody) = (subject.user().await?, subject.anybody()?);
    let id = user.with_profile_image(picture(1)).await?;
    anybody.read(&id).await?.expect_status(302)?;
    anybody.get("/chosen-by-a-client").await?.expect_status(404)?;
    anybody.get("/images/chosen-by-a-client").await?.expect_status(404)?;
    anybody.send(anybody.request(Method::from_bytes(b"CHOSEN")?, "/limits")).await?;
    let metrics = anybody.get("/metrics").await?.expect_status(200)?;
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    let text = std::str::from_utf8(&metrics.body)?;
    let counted = |wanted: &str| text.lines().any(|line| line.starts_with(wanted));
    assert!(counted("image_links_total 1"), "{text}");
    let read = "http_requests_total{method=\"GET\",route=\"/images/{id}\",status=\"302\"} 1";
    assert!(counted(read), "{text}");
    assert!(counted("http_request_duration_seconds_bucket"), "{text}");
    assert!(text.contains("method=\"other\"") && text.ends_with("# EOF\n"), "{text}");
    for chosen in ["chosen", "CHOSEN", id.as_str(), &user.id.to_string()] {
        assert!(!text.contains(chosen), "{chosen} in {text}");
    }
    Ok(())
}

/// The server logs one line for each upload that it carries, and one for each link, with the image's id and size.
pub(super) async fn a_link_and_an_upload_have_one_log_line_each(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let id = user.with_profile_image(picture(1)).await?;
    user.link_profile(&id).await?.expect_status(200)?;
    let refused = user.link_profile(&uuid::Uuid::now_v7().to_string()).await?;
    let request_id = refused.header("x-request-id");
    subject.server()?.wait_for_log(|line| line.contains(request_id)).await?;
    let log = subject.server()?.log();
    let lines = |message: &str| -> Vec<Value> {
        let found = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        found.filter(|line| line["message"] == message).collect()
    };
    let linked = lines("image linked");
    assert_eq!(linked.len(), 1, "{log:?}");
    let uploads = usize::from(subject.strategy == Strategy::Streaming);
    let uploaded = lines("image uploaded");
    assert_eq!(uploaded.len(), uploads, "{log:?}");
    for line in linked.iter().chain(&uploaded) {
        assert_eq!((&line["level"], &line["image.id"]), (&json!("INFO"), &json!(id)));
        assert_eq!(line["size_bytes"], picture(1).len(), "{line}");
        assert!(line["duration_ms"].is_u64() && names(line).contains(&"timestamp"), "{line}");
    }
    let told = log.iter().filter(|line| line.contains(request_id)).count();
    assert_eq!(told, 1, "a refusal is logged once");
    assert_eq!(subject.kept().await?, Kept { rows: 1, linked: 1, media: 1 });
    Ok(())
}
