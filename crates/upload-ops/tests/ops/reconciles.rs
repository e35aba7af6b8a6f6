//! `reconcile`: what it removes, what stays, and when it refuses to remove anything.

use upload_domain::{ImageId, incoming_key};
use uuid::Uuid;

use crate::world::{World, answer, assert_refused, media, ops};

fn nobody() -> ImageId {
    ImageId::from(Uuid::now_v7())
}

#[tokio::test]
async fn old_objects_that_no_row_names_go_and_nothing_else_does() {
    let world = World::new().await;
    let pending = world.image(60, "").await;
    let linked = world.linked("media/x", "").await;
    let (_, copy) = media(linked);
    world.stand.sql(&format!("UPDATE image SET media_key = '{copy}' WHERE id = '{linked}'")).await.unwrap();
    let trail = world.attempt(pending, -600).await;
    let unnamed = [incoming_key(nobody()), incoming_key(linked), media(linked).1, media(pending).1, media(nobody()).1];
    let mut kept = vec![incoming_key(pending), copy, trail, "incoming/other".to_owned(), "media/other".to_owned()];
    kept.sort();
    for key in unnamed.iter().chain(&kept) {
        world.put(key).await;
    }
    let all = world.keys().await;

    let printed = answer(&world.stand, "reconcile").await;
    let young = "reconciled 10 objects: 0 without a row, 0 removed, 0 left, 2 with a foreign name";
    assert!(printed.starts_with(young), "{printed}");
    world.three_hours_later().await;
    let printed = answer(&world.stand, "reconcile --dry-run").await;
    for key in &unnamed {
        assert!(printed.contains(&format!("would remove {key}\n")), "{printed}");
    }
    assert!(printed.contains("reconciled 10 objects: 5 without a row, 0 removed"), "{printed}");
    assert_eq!(world.keys().await, all);

    let printed = answer(&world.stand, "reconcile").await;
    assert!(printed.starts_with("reconciled 10 objects: 5 without a row, 5 removed, 0 left"), "{printed}");
    assert_eq!(world.keys().await, kept);
}

#[tokio::test]
async fn in_a_bucket_with_versions_every_version_counts_and_a_pinned_one_stays() {
    for mode in ["version", "copy"] {
        let world = World::new().await;
        world.stand.enable_versioning().await.unwrap();
        let storage = &world.stand.storage;
        let image = world.image(1_000_000, "").await;
        let incoming = incoming_key(image);
        world.put(&incoming).await;
        let version = storage.list_versions(&incoming).await.unwrap().remove(0).1;
        let set = format!(
            "media_key = '{incoming}', media_version = '{version}', media_byte_size = 5, width = 1, height = 1,
             byte_size = 5, linked_at = now(), incoming_due_at = NULL"
        );
        world.stand.sql(&format!("UPDATE image SET {set} WHERE id = '{image}'")).await.unwrap();
        for key in [&incoming, &incoming_key(nobody())] {
            world.put(key).await;
            world.stand.hide(key).await.unwrap();
        }
        world.three_hours_later().await;
        let finished = ops(&world.stand, "reconcile").env("S3_PIN", mode).run().await.unwrap();
        let expected = "reconciled 5 objects: 4 without a row, 4 removed, 0 left";
        assert!(finished.stdout.starts_with(expected), "{mode}: {finished:?}");
        assert_eq!(storage.list_versions("").await.unwrap(), [(incoming, version)], "{mode}");
    }
}

#[tokio::test]
async fn it_removes_nothing_if_too_much_would_go() {
    let world = World::new().await;
    for _ in 0..11 {
        world.put(&incoming_key(nobody())).await;
    }
    world.three_hours_later().await;
    for (arguments, said) in [
        ("reconcile", "11 of 11 objects have no row: more than 1% of all. Nothing was removed."),
        (
            "reconcile --most-percent 100 --most 10",
            "more than 10 of the first 11 objects have no row. Nothing was removed.",
        ),
    ] {
        let finished = ops(&world.stand, arguments).run().await.unwrap();
        assert_refused(&finished, 1, &[said]);
    }
    assert_eq!(world.keys().await.len(), 11);
    let printed = answer(&world.stand, "reconcile --most-percent 100").await;
    assert!(printed.starts_with("reconciled 11 objects: 11 without a row, 11 removed"), "{printed}");
    assert_eq!(world.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_grace_in_which_an_upload_could_still_run_is_refused() {
    let world = World::new().await;
    let finished = ops(&world.stand, "reconcile --grace 59m").run().await.unwrap();
    assert_refused(&finished, 2, &["--grace is 3540 s; it must be at least PENDING_TTL (3600 s)"]);
}
