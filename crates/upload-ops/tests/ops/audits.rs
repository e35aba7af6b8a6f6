//! `audit`: which linked images it reports.

use bytes::Bytes;
use upload_domain::{ImageId, incoming_key};
use upload_sandbox::relay::{Mode, Relay};
use uuid::Uuid;

use crate::world::{World, answer, media, ops};

fn key() -> String {
    media(ImageId::from(Uuid::now_v7())).1
}

#[tokio::test]
async fn linked_images_without_their_object_are_reported_and_nothing_is_changed() {
    let world = World::new().await;
    let (right, missing, long, html) = (key(), key(), key(), key());
    world.put(&right).await;
    world.put(&long).await;
    world.stand.storage.put(&html, "text/html", Bytes::from_static(b"bytes")).await.unwrap();
    world.linked(&right, "").await;
    // A link accepts any case, and so does the audit.
    let capitals = key();
    world.stand.storage.put(&capitals, "Image/PNG", Bytes::from_static(b"bytes")).await.unwrap();
    world.linked(&capitals, "").await;
    let printed = answer(&world.stand, "audit").await;
    assert!(
        printed.starts_with("audited 2 linked images: 0 without an object, 0 with another object, 0 not checked"),
        "{printed}"
    );

    let missing_image = world.linked(&missing, "").await;
    let long_image = world.linked(&long, "media_byte_size = 6, byte_size = 6").await;
    let html_image = world.linked(&html, "").await;
    // A sweep is removing this one.
    world.linked(&key(), "deleting_at = now()").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.prom");
    let finished = ops(&world.stand, "audit --metrics-file").arg(file.to_str().unwrap()).run().await.unwrap();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    for said in [
        format!("image {missing_image}: there is no object {missing}\n"),
        format!("image {long_image}: the object {long} has 5 bytes, and the row says 6\n"),
        format!("image {html_image}: the object {html} has the type `text/html`, and the row says `image/png`\n"),
        "audited 5 linked images: 1 without an object, 2 with another object, 0 not checked".to_owned(),
    ] {
        assert!(finished.stdout.contains(&said), "{said}: {finished:?}");
    }
    assert!(finished.stderr.contains("3 linked images do not have the object"), "{finished:?}");
    let metrics = std::fs::read_to_string(&file).unwrap();
    for line in ["linked_images 5", "linked_without_object 1", "linked_with_another_object 2", "linked_not_checked 0"] {
        assert!(metrics.lines().any(|written| written == line), "{metrics}");
    }
    assert_eq!(world.keys().await.len(), 4);
}

#[tokio::test]
async fn the_version_that_a_row_names_is_what_counts() {
    let world = World::new().await;
    world.stand.enable_versioning().await.unwrap();
    let image = world.image(1_000_000, "").await;
    let incoming = incoming_key(image);
    world.put(&incoming).await;
    let version = world.stand.storage.list_versions(&incoming).await.unwrap().remove(0).1;
    let set = format!(
        "media_key = '{incoming}', media_version = '{version}', media_byte_size = 5, width = 1, height = 1,
         byte_size = 5, linked_at = now()"
    );
    world.stand.sql(&format!("UPDATE image SET {set} WHERE id = '{image}'")).await.unwrap();
    world.stand.hide(&incoming).await.unwrap();
    let finished = ops(&world.stand, "audit").env("S3_PIN", "version").run().await.unwrap();
    assert_eq!(finished.code, Some(0), "{finished:?}");

    let (_, version) = world.stand.storage.list_versions(&incoming).await.unwrap().remove(0);
    world.stand.storage.delete_versions(&[incoming], &[].into()).await.unwrap();
    let finished = ops(&world.stand, "audit").env("S3_PIN", "version").run().await.unwrap();
    assert_eq!(finished.code, Some(1), "{version}: {finished:?}");
}

#[tokio::test]
async fn an_image_that_a_sweep_takes_meanwhile_is_not_reported() {
    let world = World::new().await;
    world.linked(&key(), "").await;
    let (endpoint, relay) = Relay::before(&world.stand.environment()["S3_ENDPOINT"]).await.unwrap();
    relay.set(Mode::HoldRequestsWith("/media/"));
    let program = ops(&world.stand, "audit").env("S3_ENDPOINT", endpoint);
    let (finished, ()) = tokio::join!(program.run(), async {
        relay.holds(1).await;
        world.stand.sql("UPDATE image SET deleting_at = now()").await.unwrap();
        relay.set(Mode::Pass);
    });
    let finished = finished.unwrap();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stdout.starts_with("audited 1 linked images: 0 without an object"), "{finished:?}");
}

/// The audit of a million images must not begin again because one request failed.
#[tokio::test]
async fn an_image_that_cannot_be_asked_for_is_told_from_a_lost_one() {
    let world = World::new().await;
    let (broken, right) = (key(), key());
    let image = world.linked(&broken, "").await;
    world.put(&right).await;
    world.linked(&right, "").await;
    let (endpoint, relay) = Relay::before(&world.stand.environment()["S3_ENDPOINT"]).await.unwrap();
    // It lives as long as the process.
    relay.set(Mode::BreakRequestsWith(broken.clone().leak()));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.prom");
    let audit = || ops(&world.stand, "audit --metrics-file").arg(file.to_str().unwrap()).env("S3_ENDPOINT", &endpoint);
    let finished = audit().run().await.unwrap();
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert!(finished.stdout.contains(&format!("image {image}: the object {broken} was not checked: ")), "{finished:?}");
    let totals = "audited 2 linked images: 0 without an object, 0 with another object, 1 not checked";
    assert!(finished.stdout.contains(totals), "{finished:?}");
    assert!(finished.stderr.contains("1 linked images could not be checked"), "{finished:?}");
    let metrics = std::fs::read_to_string(&file).unwrap();
    assert!(metrics.contains("linked_without_object 0\n") && metrics.contains("linked_not_checked 1\n"), "{metrics}");

    // Nothing can be asked for: the audit ends, and the metrics of the one before stay.
    std::fs::remove_file(&file).unwrap();
    relay.set(Mode::BreakRequestsWith("/media/"));
    let finished = audit().run().await.unwrap();
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert!(finished.stderr.contains("no request for the last 2 images succeeded"), "{finished:?}");
    assert!(!file.exists());

    // A loss is said, whatever else fails.
    relay.set(Mode::BreakRequestsWith(right.leak()));
    let finished = audit().run().await.unwrap();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stdout.contains("1 without an object, 0 with another object, 1 not checked"), "{finished:?}");
}

#[tokio::test]
async fn a_key_that_may_only_list_and_get_is_enough() {
    let world = World::new().await;
    let bucket = world.stand.bucket();
    let policy = format!(
        r#"{{"Version": "2012-10-17", "Statement": [
            {{"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": ["arn:aws:s3:::{bucket}"]}},
            {{"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::{bucket}/*"]}}]}}"#
    );
    // A given store makes no keys here.
    let Some(reader) = world.stand.further_key(&policy).unwrap() else { return };
    let right = key();
    world.put(&right).await;
    world.linked(&right, "").await;
    let audit = ops(&world.stand, "audit").without("S3_SESSION_TOKEN").env("S3_ACCESS_KEY_ID", reader.id);
    let finished = audit.env("S3_SECRET_ACCESS_KEY", reader.secret).run().await.unwrap();
    assert_eq!(finished.code, Some(0), "{finished:?}");
}
