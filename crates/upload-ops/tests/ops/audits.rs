//! `audit`: which linked images it reports.

use bytes::Bytes;
use upload_domain::{ImageId, incoming_key};
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
    let printed = answer(&world.stand, "audit").await;
    assert!(printed.starts_with("audited 1 linked images: 0 without an object, 0 with another object"), "{printed}");

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
        "audited 4 linked images: 1 without an object, 2 with another object".to_owned(),
    ] {
        assert!(finished.stdout.contains(&said), "{said}: {finished:?}");
    }
    assert!(finished.stderr.contains("3 linked images do not have the object"), "{finished:?}");
    let metrics = std::fs::read_to_string(&file).unwrap();
    for line in ["linked_images 4", "linked_without_object 1", "linked_with_another_object 2"] {
        assert!(metrics.lines().any(|written| written == line), "{metrics}");
    }
    assert_eq!(world.keys().await.len(), 3);
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
