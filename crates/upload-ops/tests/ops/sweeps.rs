//! `sweep`: what it deletes, what it keeps, and what a killed sweep leaves to the next one.

use std::process::Stdio;

use futures::future::join_all;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};
use upload_domain::{AttemptId, ImageId, incoming_key};
use upload_sandbox::{
    Stand,
    process::Finished,
    relay::{Mode, Relay},
};
use uuid::Uuid;

use crate::world::{World, answer, assert_refused, media, ops, stopped_at_a_deletion, verified};

/// The output of a sweep that leaves nothing for the next one.
fn said(images: usize, attempts: usize, linked: usize, batches: usize) -> String {
    format!(
        "swept {images} images, the leftovers of {attempts} attempts, the incoming keys of {linked} linked images, 0 images that were \
         shown once and 0 deleted posts, in {batches} batches, 0 left, "
    )
}

/// A text that each request to delete objects contains.
const DELETE: &str = "?delete";

/// A sweep whose requests to delete are lost on their way to the store.
async fn powerless(stand: &Stand) -> Finished {
    let (endpoint, relay) = Relay::before(&stand.environment()["S3_ENDPOINT"]).await.unwrap();
    relay.set(Mode::BreakRequestsWith(DELETE));
    ops(stand, "sweep --once").env("S3_ENDPOINT", endpoint).run().await.unwrap()
}

#[tokio::test]
async fn expired_images_go_with_their_objects_and_nothing_else_does() {
    let world = World::new().await;
    let bare = world.image(3601, "").await;
    let incoming = world.image(4000, "refused_code = 'content_mismatch'").await;
    let uploaded = world.image(4000, "").await;
    let (_, uploaded_key) = media(uploaded);
    let died = world.image(4000, "").await;
    // This key is in the trail, and its time is not over.
    let died_key = world.attempt(died, -600).await;
    let (died_attempt, _) = media(died);
    let set_attempt = |attempt: AttemptId, until: &str| {
        format!("attempt = '{attempt}', attempt_kind = 'link', attempt_until = now() {until} interval '30 s'")
    };
    for (image, set) in [(uploaded, verified(&uploaded_key)), (died, set_attempt(died_attempt, "-"))] {
        world.stand.sql(&format!("UPDATE image SET {set} WHERE id = '{image}'")).await.unwrap();
    }
    for key in [incoming_key(incoming), incoming_key(uploaded), uploaded_key, incoming_key(died)] {
        world.put(&key).await;
    }

    let fresh = world.image(3500, "").await;
    let running = world.image(4000, "").await;
    let (running_attempt, running_key) = media(running);
    let linked = world.image(1_000_000, "").await;
    let (_, linked_key) = media(linked);
    let set_linked = format!("{}, byte_size = 5, linked_at = now()", verified(&linked_key));
    for (image, set) in [(running, set_attempt(running_attempt, "+")), (linked, set_linked)] {
        world.stand.sql(&format!("UPDATE image SET {set} WHERE id = '{image}'")).await.unwrap();
    }
    let mut kept_keys = vec![
        died_key,
        incoming_key(fresh),
        running_key,
        incoming_key(running),
        linked_key,
        "incoming/other".to_owned(),
    ];
    kept_keys.sort();
    for key in &kept_keys {
        world.put(key).await;
    }

    let printed = answer(&world.stand, "sweep --once").await;
    assert!(printed.starts_with(&said(4, 0, 0, 1)), "{printed}");
    assert_eq!(world.keys().await, kept_keys);
    assert_eq!(world.kept(&[bare, incoming, uploaded, died, fresh, running, linked]).await, [fresh, running, linked]);
    let printed = answer(&world.stand, "sweep --once").await;
    assert!(printed.starts_with(&said(0, 0, 0, 0)), "{printed}");
}

#[tokio::test]
async fn what_a_sweep_that_died_left_is_finished() {
    let world = World::new().await;
    let tombstone = world.image(4000, "deleting_at = now() - interval '46 s'").await;
    let emptied = world.image(4000, "deleting_at = now() - interval '1 h'").await;
    let elsewhere = world.image(4000, "deleting_at = now() - interval '30 s'").await;
    for image in [tombstone, elsewhere] {
        world.put(&incoming_key(image)).await;
    }
    let printed = answer(&world.stand, "sweep --once").await;
    assert!(printed.starts_with("swept 2 images"), "{printed}");
    assert_eq!(world.kept(&[tombstone, emptied, elsewhere]).await, [elsewhere], "another sweep is at it");
    assert_eq!(world.keys().await, [incoming_key(elsewhere)]);
}

#[tokio::test]
async fn an_object_that_cannot_be_deleted_keeps_its_row_until_it_can() {
    let world = World::new().await;
    let image = world.image(4000, "").await;
    world.put(&incoming_key(image)).await;
    let finished = powerless(&world.stand).await;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(world.stand.count("image WHERE deleting_at IS NOT NULL").await.unwrap(), 1);
    assert_eq!(world.keys().await, [incoming_key(image)]);

    world.stand.sql("UPDATE image SET deleting_at = deleting_at - interval '46 s'").await.unwrap();
    let printed = answer(&world.stand, "sweep --once").await;
    assert!(printed.starts_with("swept 1 images"), "{printed}");
    assert_eq!(world.keys().await, Vec::<String>::new());
    assert_eq!(world.kept(&[image]).await, []);
}

#[tokio::test]
async fn what_a_form_left_after_the_link_goes_once_no_form_is_valid() {
    let world = World::new().await;
    let linked = world.image(1_000_000, "").await;
    let (_, key) = media(linked);
    let link = format!("{}, byte_size = 5, linked_at = now() - interval '530 s'", verified(&key));
    world.stand.sql(&format!("UPDATE image SET {link} WHERE id = '{linked}'")).await.unwrap();
    for key in [&incoming_key(linked), &key] {
        world.put(key).await;
    }
    let all = world.keys().await;
    let printed = answer(&world.stand, "sweep --once").await;
    assert!(printed.starts_with(&said(0, 0, 0, 0)), "{printed}");
    assert_eq!(world.keys().await, all, "300 s of the form, 180 s of a body and 60 s of skew are not over");

    world.stand.sql("UPDATE image SET linked_at = linked_at - interval '11 s'").await.unwrap();
    // A longer form's time is not over yet.
    let finished = ops(&world.stand, "sweep --once").env("FORM_TTL", "600").run().await.unwrap();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(world.keys().await, all);
    let finished = powerless(&world.stand).await;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(world.keys().await, all);

    world.stand.sql("UPDATE image SET incoming_due_at = incoming_due_at - interval '46 s'").await.unwrap();
    let printed = answer(&world.stand, "sweep --once").await;
    assert!(printed.starts_with(&said(0, 0, 1, 1)), "{printed}");
    assert_eq!(world.keys().await, [key]);
    assert_eq!(world.kept(&[linked]).await, [linked]);
    let printed = answer(&world.stand, "sweep --once").await;
    assert!(printed.starts_with(&said(0, 0, 0, 0)), "{printed}");
}

#[tokio::test]
async fn in_a_bucket_with_versions_every_version_goes_but_the_pinned_one() {
    for mode in ["version", "copy"] {
        let world = World::new().await;
        world.stand.enable_versioning().await.unwrap();
        let storage = &world.stand.storage;
        let pinned = world.image(1_000_000, "").await;
        let (copied, (_, copy)) = (world.image(1_000_000, "").await, media(ImageId::from(Uuid::now_v7())));
        let (expired, left) = (world.image(4000, "").await, world.attempt(pinned, 1).await);
        let incoming = incoming_key(pinned);
        world.put(&incoming).await;
        let version = storage.list_versions(&incoming).await.unwrap().remove(0).1;
        let linked = |key: &str| format!("{}, byte_size = 5, linked_at = now() - interval '1 h'", verified(key));
        for (image, set) in
            [(pinned, format!("{}, media_version = '{version}'", linked(&incoming))), (copied, linked(&copy))]
        {
            world.stand.sql(&format!("UPDATE image SET {set} WHERE id = '{image}'")).await.unwrap();
        }
        world.put(&copy).await;
        for key in [&incoming, &incoming_key(copied), &incoming_key(expired), &left] {
            world.put(key).await;
            world.stand.hide(key).await.unwrap();
            world.put(key).await;
        }
        let sweep = ops(&world.stand, "sweep --once").env("S3_PIN", mode).run().await.unwrap();
        assert!(sweep.stdout.starts_with(&said(1, 1, 2, 3)), "{mode}: {sweep:?}");
        let mut kept = storage.list_versions("").await.unwrap();
        kept.sort();
        let copy_version = kept.iter().find(|(key, _version)| *key == copy).unwrap().1.clone();
        assert_eq!(kept, [(incoming, version), (copy, copy_version)], "{mode}");
    }
}

#[tokio::test]
async fn what_attempts_left_goes_when_no_write_can_come_any_more() {
    let world = World::new().await;
    let image = world.image(60, "").await;
    let gone = ImageId::from(Uuid::now_v7());
    let due = [world.attempt(image, 1).await, world.attempt(image, 4000).await, world.attempt(gone, 1).await];
    let (empty, running) = (world.attempt(image, 1).await, world.attempt(image, -60).await);
    for key in due.iter().chain([&running]) {
        world.put(key).await;
    }
    let finished = powerless(&world.stand).await;
    assert_refused(&finished, 1, &["cannot delete leftover objects of attempts"]);
    assert_eq!((world.keys().await.len(), world.stand.count("image_attempt").await.unwrap()), (4, 5));

    world.stand.sql("UPDATE image_attempt SET until = until - interval '46 s'").await.unwrap();
    let printed = answer(&world.stand, "sweep --once").await;
    assert!(printed.starts_with(&said(0, 4, 0, 1)), "{printed}; one of them left nothing: {empty}");
    assert_eq!(world.keys().await, [running]);
    assert_eq!(world.stand.count("image_attempt").await.unwrap(), 1);
}

/// A failure with one kind of rows does not stop the work on the others.
#[tokio::test]
async fn a_part_that_fails_does_not_keep_the_others_from_being_done() {
    let world = World::new().await;
    let expired = world.image(4000, "").await;
    let linked = world.image(1_000_000, "").await;
    let (_, key) = media(linked);
    let link = format!("{}, byte_size = 5, linked_at = now() - interval '1 h'", verified(&key));
    world.stand.sql(&format!("UPDATE image SET {link} WHERE id = '{linked}'")).await.unwrap();
    let left = world.attempt(linked, 1).await;
    for key in [incoming_key(expired), incoming_key(linked), key.clone(), left] {
        world.put(&key).await;
    }
    // Postgres itself refuses to delete the expired row.
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no room'; END $$;
        CREATE TRIGGER refuse BEFORE DELETE ON image FOR EACH ROW EXECUTE FUNCTION refuse()";
    world.stand.sql(refuse).await.unwrap();
    let finished = ops(&world.stand, "sweep --once").run().await.unwrap();
    assert_refused(&finished, 1, &["cannot delete rows of expired images", "no room"]);
    assert_eq!(world.keys().await, [key]);
    assert_eq!(world.stand.count("image WHERE incoming_due_at IS NULL").await.unwrap(), 1);
    assert_eq!(world.stand.count("image_attempt").await.unwrap(), 0);
}

#[tokio::test]
async fn a_store_that_goes_away_leaves_everything_to_the_next_sweep() {
    let world = World::new().await;
    world.image(4000, "").await;
    let finished = powerless(&world.stand).await;
    assert_refused(&finished, 1, &["cannot delete objects of expired images"]);
    assert_eq!(world.stand.count("image WHERE deleting_at IS NOT NULL").await.unwrap(), 1);
}

#[tokio::test]
async fn sweeps_at_once_share_the_work() {
    let world = World::new().await;
    const ROWS: usize = 1700;
    let insert = format!(
        "INSERT INTO image (id, path, format, user_id, created_at)
         SELECT gen_random_uuid(), 'post', 'image/png', '{}', now() - interval '2 h' FROM generate_series(1, {ROWS})",
        world.user
    );
    world.stand.sql(&insert).await.unwrap();
    let some = world.stand.sql("SELECT id FROM image LIMIT 20").await.unwrap();
    for row in &some {
        world.put(&incoming_key(row[0].as_ref().unwrap().parse().unwrap())).await;
    }
    let sweeps = join_all((0..4).map(|_| answer(&world.stand, "sweep --once"))).await;
    let swept: usize = sweeps.iter().map(|line| line.split(' ').nth(1).unwrap().parse::<usize>().unwrap()).sum();
    assert_eq!(swept, ROWS, "{sweeps:?}");
    assert_eq!(world.stand.count("image").await.unwrap(), 0);
    assert_eq!(world.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn sweeping_goes_on_until_a_signal_and_then_ends_well() {
    let world = World::new().await;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        world.image(4000, "").await;
        let mut child = Command::new(env!("CARGO_BIN_EXE_upload-ops"))
            .args(["sweep", "--every", "1h"])
            .env_clear()
            .envs(world.stand.environment())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = log.next_line().await.unwrap().unwrap();
        assert!(line.contains("\"Swept\"") && line.contains("\"images\":1"), "{line}");
        let id = i32::try_from(child.id().unwrap()).unwrap();
        kill(Pid::from_raw(id), signal).unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(0), "{signal}");
        assert_eq!(world.stand.count("image").await.unwrap(), 0);
    }
}

#[tokio::test]
async fn what_nothing_shows_any_more_goes_after_its_time() {
    let world = World::new().await;
    let keys: Vec<String> = (0..5).map(|_| media(ImageId::from(Uuid::now_v7())).1).collect();
    let mut images = Vec::new();
    for key in &keys {
        world.put(key).await;
        images.push(world.linked(key, "").await);
    }
    let [replaced, poster, in_post, in_young_post, live] = images[..] else { panic!("five images") };
    let user = world.user;
    let (old, young, bare) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    let links = format!(
        "DELETE FROM user_profile_image WHERE image_id IN ('{poster}', '{in_post}', '{in_young_post}');
         UPDATE user_profile_image SET deleted_at = now() - interval '31 d' WHERE deleted_at IS NOT NULL;
         INSERT INTO competition (id, title, host_user_id) VALUES ('{old}', '', '{user}');
         INSERT INTO competition_poster_image (competition_id, image_id, deleted_at)
             VALUES ('{old}', '{poster}', now() - interval '31 d');
         INSERT INTO post (id, user_id, title, content, deleted_at) VALUES
             ('{old}', '{user}', '', '', now() - interval '31 d'), ('{bare}', '{user}', '', '', now() - interval '31 d'),
             ('{young}', '{user}', '', '', now() - interval '29 d');
         INSERT INTO post_image (post_id, image_id, sequence)
             VALUES ('{old}', '{in_post}', 0), ('{young}', '{in_young_post}', 0)"
    );
    world.stand.sql(&links).await.unwrap();
    // A form wrote this, and no sweep has looked since.
    world.put(&incoming_key(replaced)).await;

    let failed = powerless(&world.stand).await;
    assert_refused(&failed, 1, &["cannot delete objects of images that nothing shows"]);
    assert_eq!(world.keys().await.len(), 6);
    world.stand.sql("UPDATE image SET deleting_at = deleting_at - interval '46 s'").await.unwrap();

    let printed = answer(&world.stand, "sweep --once").await;
    assert!(printed.contains("3 images that were shown once and 2 deleted posts"), "{printed}");
    let mut kept = keys[3..].to_vec();
    kept.sort();
    assert_eq!(world.keys().await, kept);
    assert_eq!(world.kept(&images).await, [in_young_post, live]);
    assert_eq!(world.stand.count("post").await.unwrap(), 1);

    let sooner = ops(&world.stand, "sweep --once").env("PURGE_AFTER", "28d").run().await.unwrap();
    assert!(sooner.stdout.contains("1 images that were shown once and 1 deleted posts"), "{sooner:?}");
    assert_eq!(world.keys().await, keys[4..]);
}

/// Two versions of the key and a marker, as a replayed form and a plain DELETE leave them.
#[tokio::test]
async fn in_a_bucket_with_versions_every_version_goes_when_nothing_shows_the_image() {
    for mode in ["version", "copy"] {
        let world = World::new().await;
        world.stand.enable_versioning().await.unwrap();
        let storage = &world.stand.storage;
        let image = world.linked("media/x", "").await;
        let incoming = incoming_key(image);
        world.put(&incoming).await;
        let version = storage.list_versions(&incoming).await.unwrap().remove(0).1;
        let set = format!("media_key = '{incoming}', media_version = '{version}'");
        world.stand.sql(&format!("UPDATE image SET {set} WHERE id = '{image}'")).await.unwrap();
        world.put(&incoming).await;
        world.stand.hide(&incoming).await.unwrap();
        assert_eq!(storage.list_versions("").await.unwrap().len(), 3);
        world.stand.sql("UPDATE user_profile_image SET deleted_at = now() - interval '31 d'").await.unwrap();
        let swept = ops(&world.stand, "sweep --once").env("S3_PIN", mode).run().await.unwrap();
        assert!(swept.stdout.contains("1 images that were shown once"), "{mode}: {swept:?}");
        assert_eq!(storage.list_versions("").await.unwrap(), [], "{mode}");
        assert_eq!(world.kept(&[image]).await, []);
    }
}

#[tokio::test]
async fn a_time_to_purge_in_which_something_could_still_be_written_is_refused() {
    let world = World::new().await;
    for (form_ttl, purge_after, least) in [("300", "9m", "600"), ("3000", "53m", "3240")] {
        let sweep = ops(&world.stand, "sweep --once").env("FORM_TTL", form_ttl).env("PURGE_AFTER", purge_after);
        let finished = sweep.run().await.unwrap();
        assert_refused(&finished, 2, &["PURGE_AFTER is ", &format!("it must be at least {least} s")]);
    }
    let least = ops(&world.stand, "sweep --once").env("PURGE_AFTER", "10m").run().await.unwrap();
    assert_eq!(least.code, Some(0), "{least:?}");
}

#[tokio::test]
async fn a_signal_ends_it_after_the_batch_and_the_next_sweep_does_the_rest() {
    let world = World::new().await;
    let insert = format!(
        "INSERT INTO image (id, path, format, user_id, created_at)
         SELECT gen_random_uuid(), 'post', 'image/png', '{}', now() - interval '2 h' FROM generate_series(1, 510)",
        world.user
    );
    world.stand.sql(&insert).await.unwrap();
    let stopped = stopped_at_a_deletion(&world, "sweep --once").await;
    assert_eq!(stopped.code, Some(1), "{stopped:?}");
    assert!(stopped.stdout.starts_with("swept 500 images, "), "{stopped:?}");
    assert!(stopped.stderr.contains("the sweep stopped before it was finished"), "{stopped:?}");
    let printed = answer(&world.stand, "sweep --once").await;
    assert!(printed.starts_with(&said(10, 0, 0, 1)), "{printed}");
}
