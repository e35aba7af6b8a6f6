//! `reconcile`: what it removes, what stays, and when it refuses to remove anything.

use futures::{StreamExt as _, stream};
use upload_domain::{ImageId, incoming_key};
use upload_sandbox::relay::{Mode, Relay};
use uuid::Uuid;

use crate::world::{World, answer, assert_refused, media, ops, stopped_at_a_deletion};

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
    let printed = answer(&world.stand, "reconcile --dry-run --most-percent 70").await;
    for key in &unnamed {
        assert!(printed.contains(&format!("would remove {key}\n")), "{printed}");
    }
    assert!(printed.contains("reconciled 10 objects: 5 without a row, 0 removed"), "{printed}");
    assert_eq!(world.keys().await, all);

    let printed = answer(&world.stand, "reconcile --most-percent 70").await;
    assert!(printed.contains("reconciled 10 objects: 5 without a row, 5 removed, 0 left"), "{printed}");
    for key in &unnamed {
        assert!(printed.contains(&format!("removed {key}\n")), "{printed}");
    }
    assert_eq!(world.keys().await, kept);
}

/// A linked image that is pinned by the newest version of its incoming key.
async fn pinned(world: &World) -> (ImageId, String, String) {
    let image = world.image(1_000_000, "").await;
    let incoming = incoming_key(image);
    world.put(&incoming).await;
    let version = world.stand.storage.list_versions(&incoming).await.unwrap().remove(0).1;
    let set = format!(
        "media_key = '{incoming}', media_version = '{version}', media_byte_size = 5, width = 1, height = 1,
         byte_size = 5, linked_at = now(), incoming_due_at = NULL"
    );
    world.stand.sql(&format!("UPDATE image SET {set} WHERE id = '{image}'")).await.unwrap();
    (image, incoming, version)
}

#[tokio::test]
async fn in_a_bucket_with_versions_every_version_counts_and_a_pinned_one_stays() {
    for mode in ["version", "copy"] {
        let world = World::new().await;
        world.stand.enable_versioning().await.unwrap();
        let (_, incoming, version) = pinned(&world).await;
        for key in [&incoming, &incoming_key(nobody())] {
            world.put(key).await;
            world.stand.hide(key).await.unwrap();
        }
        world.three_hours_later().await;
        let finished = ops(&world.stand, "reconcile --most-percent 80").env("S3_PIN", mode).run().await.unwrap();
        let expected = "reconciled 5 objects: 4 without a row, 4 removed, 0 left";
        assert!(finished.stdout.contains(expected), "{mode}: {finished:?}");
        assert_eq!(world.stand.storage.list_versions("").await.unwrap(), [(incoming, version)], "{mode}");
    }
}

/// The pinned version is lost, or was restored from a backup and has another id: the other versions may be all that is left.
#[tokio::test]
async fn nothing_is_removed_beside_a_pinned_version_that_is_missing() {
    let world = World::new().await;
    world.stand.enable_versioning().await.unwrap();
    let storage = &world.stand.storage;
    let (image, incoming, version) = pinned(&world).await;
    storage.delete_versions(std::slice::from_ref(&incoming), &[].into()).await.unwrap();
    world.put(&incoming).await;
    let restored = storage.list_versions(&incoming).await.unwrap().remove(0).1;
    world.three_hours_later().await;
    let reconcile = || ops(&world.stand, "reconcile --most-percent 100").env("S3_PIN", "version").run();
    let finished = reconcile().await.unwrap();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    for said in [
        format!("kept {incoming}, version {restored}: its row names version {version}, which is not there\n"),
        "reconciled 1 objects: 0 without a row, 0 removed, 0 left, 0 with a foreign name, 1 beside a missing version"
            .into(),
    ] {
        assert!(finished.stdout.contains(&said), "{said}: {finished:?}");
    }
    // A sweep that has yet to empty the key leaves it, too, and says that it could not.
    world.stand.sql("UPDATE image SET incoming_due_at = now(), linked_at = now() - interval '1 d'").await.unwrap();
    let swept = ops(&world.stand, "sweep --once").env("S3_PIN", "version").run().await.unwrap();
    assert_eq!(swept.code, Some(1), "{swept:?}");
    assert!(swept.stderr.contains("a pinned version is missing"), "{swept:?}");
    assert_eq!(storage.list_versions("").await.unwrap(), [(incoming.clone(), restored.clone())]);

    // As docs/OPERATIONS.md says.
    let mend = format!("UPDATE image SET media_version = '{restored}', incoming_due_at = NULL WHERE id = '{image}'");
    world.stand.sql(&mend).await.unwrap();
    let finished = reconcile().await.unwrap();
    assert!(finished.stdout.contains("0 beside a missing version"), "{finished:?}");
    let audited = ops(&world.stand, "audit").env("S3_PIN", "version").run().await.unwrap();
    assert_eq!(audited.code, Some(0), "{audited:?}");
}

#[tokio::test]
async fn it_removes_nothing_if_too_much_would_go() {
    let world = World::new().await;
    let keys: Vec<String> = (0..11).map(|_| incoming_key(nobody())).collect();
    for key in &keys {
        world.put(key).await;
    }
    world.three_hours_later().await;
    let mut sorted = keys.clone();
    sorted.sort();
    for (arguments, said, shown) in [
        ("reconcile", "none of 11 objects has a row. Nothing was removed.", 0),
        ("reconcile --dry-run", "none of 11 objects has a row. Nothing was removed.", 11),
        ("reconcile --most-percent 99", "none of 11 objects has a row. Nothing was removed.", 0),
        (
            "reconcile --dry-run --most-percent 100 --most 10",
            "more than 10 of the first 11 objects have no row. Nothing was removed.",
            10,
        ),
    ] {
        let finished = ops(&world.stand, arguments).run().await.unwrap();
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.stderr.contains(said), "{finished:?}");
        let lines: Vec<String> = sorted.iter().take(shown).map(|key| format!("would remove {key}")).collect();
        let printed: Vec<&str> = finished.stdout.lines().collect();
        let (totals, printed) = printed.split_last().unwrap();
        assert_eq!(printed, lines, "{arguments}");
        assert!(totals.starts_with("reconciled 11 objects: 11 without a row, 0 removed"), "{totals}");
    }
    assert_eq!(world.keys().await, sorted);
    let printed = answer(&world.stand, "reconcile --most-percent 100").await;
    assert!(printed.contains("reconciled 11 objects: 11 without a row, 11 removed"), "{printed}");
    assert_eq!(world.keys().await, Vec::<String>::new());
}

/// A few objects are no exception: the database may be empty, or restored from a backup.
#[tokio::test]
async fn neither_a_foreign_database_nor_a_restored_one_costs_objects() {
    let world = World::new().await;
    let five: Vec<String> = (0..5).map(|_| incoming_key(nobody())).collect();
    put_all(&world, &five).await;
    world.three_hours_later().await;
    let finished = ops(&world.stand, "reconcile").run().await.unwrap();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(world.keys().await.len(), 5);

    // 292 of 300 have a row, so three may go.
    let more: Vec<ImageId> = (0..295).map(|_| nobody()).collect();
    put_all(&world, &more.iter().map(|image| incoming_key(*image)).collect::<Vec<_>>()).await;
    world.add_images(&more[3..]).await;
    let finished = ops(&world.stand, "reconcile").run().await.unwrap();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("8 of 300 objects have no row: more than 1%"), "{finished:?}");
    assert_eq!(world.keys().await.len(), 300);

    world.add_images(&more[..3]).await;
    for key in &five[..2] {
        let image = upload_domain::incoming_key_image(key).unwrap();
        world.add_images(&[image]).await;
    }
    let printed = answer(&world.stand, "reconcile").await;
    assert!(printed.contains("reconciled 300 objects: 3 without a row, 3 removed"), "{printed}");
}

async fn put_all(world: &World, keys: &[String]) {
    stream::iter(keys.to_vec()).for_each_concurrent(16, |key| async move { world.put(&key).await }).await;
}

/// Objects without a row for two batches, three hours old for the database. The keys are in the order of the list.
async fn two_batches(world: &World) -> Vec<ImageId> {
    let mut images: Vec<ImageId> = (0..510).map(|_| ImageId::from(Uuid::new_v4())).collect();
    images.sort_by_key(|image| incoming_key(*image));
    put_all(world, &images.iter().map(|image| incoming_key(*image)).collect::<Vec<_>>()).await;
    world.three_hours_later().await;
    images
}

/// A restore that ends meanwhile, for instance.
#[tokio::test]
async fn what_gets_a_row_while_it_runs_stays() {
    let world = World::new().await;
    let images = two_batches(&world).await;
    let (endpoint, relay) = Relay::before(&world.stand.environment()["S3_ENDPOINT"]).await.unwrap();
    relay.set(Mode::HoldRequestsWith("?delete"));
    let program = ops(&world.stand, "reconcile --most-percent 100").env("S3_ENDPOINT", endpoint);
    let (finished, ()) = tokio::join!(program.run(), async {
        relay.holds(1).await;
        world.add_images(&images[505..]).await;
        relay.set(Mode::Pass);
    });
    let finished = finished.unwrap();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stdout.contains("510 without a row, 505 removed, 0 left"), "{finished:?}");
    let kept: Vec<String> = images[505..].iter().map(|image| incoming_key(*image)).collect();
    assert_eq!(world.keys().await, kept);
}

#[tokio::test]
async fn a_signal_ends_it_after_the_batch_and_the_next_run_does_the_rest() {
    let world = World::new().await;
    let images = two_batches(&world).await;
    let stopped = stopped_at_a_deletion(&world, "reconcile --most-percent 100").await;
    assert_eq!(stopped.code, Some(1), "{stopped:?}");
    assert!(stopped.stderr.contains("stopped before it was finished"), "{stopped:?}");
    assert!(stopped.stdout.contains("reconciled 510 objects: 510 without a row, 500 removed, 0 left"), "{stopped:?}");
    let removed = stopped.stdout.lines().filter(|line| line.starts_with("removed incoming/")).count();
    assert_eq!(removed, 500, "each has a line");
    let left: Vec<String> = images[500..].iter().map(|image| incoming_key(*image)).collect();
    assert_eq!(world.keys().await, left);
    let printed = answer(&world.stand, "reconcile --most-percent 100").await;
    assert!(printed.contains("reconciled 10 objects: 10 without a row, 10 removed"), "{printed}");
}

#[tokio::test]
async fn a_store_that_fails_while_it_removes_does_not_take_the_totals_away() {
    let world = World::new().await;
    let key = incoming_key(nobody());
    world.put(&key).await;
    world.three_hours_later().await;
    let (endpoint, relay) = Relay::before(&world.stand.environment()["S3_ENDPOINT"]).await.unwrap();
    relay.set(Mode::BreakRequestsWith("?delete"));
    let program = ops(&world.stand, "reconcile --most-percent 100").env("S3_ENDPOINT", endpoint);
    let finished = program.run().await.unwrap();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stdout.contains(&format!("perhaps removed {key}\n")), "{finished:?}");
    assert!(finished.stdout.contains("reconciled 1 objects: 1 without a row, 0 removed"), "{finished:?}");
    assert_eq!(world.keys().await, [key]);
}

/// A standby that lags behind does not know the newest rows.
#[tokio::test]
async fn a_standby_is_refused() {
    let world = World::new().await;
    let standby = "CREATE FUNCTION public.pg_is_in_recovery() RETURNS boolean LANGUAGE sql AS 'SELECT true';
         DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$";
    world.stand.sql(standby).await.unwrap();
    for arguments in ["reconcile", "reconcile --dry-run", "sweep --once"] {
        let finished = ops(&world.stand, arguments).run().await.unwrap();
        assert_refused(&finished, 2, &["DATABASE_URL", "standby", "use the primary"]);
    }
}

#[tokio::test]
async fn a_grace_in_which_an_upload_could_still_run_is_refused() {
    let world = World::new().await;
    let finished = ops(&world.stand, "reconcile --grace 59m").run().await.unwrap();
    assert_refused(&finished, 2, &["--grace is 3540 s; it must be at least PENDING_TTL (3600 s)"]);
}
