//! Which rows a sweep takes, and which it leaves.

use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use upload_domain::{ImageId, ImagePath, media_key_parts};
use upload_persistence::{
    Connection,
    image_attempts::{self, Left},
    images::{self, Doomed},
    profile_images,
    quotas::Quota,
};

use crate::world::{CUTOFF, FORM_LIFE, PENDING_TTL, World, finished, new_attempt, new_image};

#[tokio::test]
async fn a_sweep_takes_expired_pending_rows_and_nothing_else() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    let fresh = world.pending(world.user, ImagePath::Post).await;
    world.age(fresh, 3590).await;
    let bare = world.pending(world.user, ImagePath::Post).await;
    let running = world.held(world.user, ImagePath::Post).await;
    let died = world.held(world.user, ImagePath::Post).await;
    world.run_out(died.image).await;
    let uploaded = world.pending(world.user, ImagePath::Post).await;
    let attempt = new_attempt();
    let lasts = Duration::from_secs(180);
    image_attempts::claim_upload(&mut connection, uploaded, attempt, lasts, CUTOFF).await.unwrap().unwrap();
    image_attempts::finish_upload(&mut connection, &finished(uploaded, attempt, "media/x/1")).await.unwrap().unwrap();
    let refused = world.held(world.user, ImagePath::Post).await;
    let refusal = upload_domain::Refusal::EmptyFile;
    image_attempts::refuse(&mut connection, refused.image, refused.attempt, refusal, Left::Nothing).await.unwrap();
    let linked = world.held(world.user, ImagePath::UserProfile).await;
    profile_images::link(&mut connection, &linked.verified()).await.unwrap().unwrap();
    for image in [bare, running.image, died.image, uploaded, refused.image, linked.image] {
        world.age(image, 3601).await;
    }

    let mut doomed = images::mark_expired(&mut connection, PENDING_TTL, 500).await.unwrap();
    doomed.sort_by_key(|doomed| doomed.id);
    assert_eq!(
        doomed,
        [
            Doomed { id: bare, media_key: None, attempt: None },
            Doomed { id: died.image, media_key: None, attempt: Some(died.attempt) },
            Doomed { id: uploaded, media_key: Some("media/x/1".into()), attempt: None },
            Doomed { id: refused.image, media_key: None, attempt: None },
        ]
    );
    let again = images::mark_expired(&mut connection, PENDING_TTL, 500).await.unwrap();
    assert_eq!(again, [], "they are left to the sweep that took them");

    let mut ids: Vec<_> = doomed.iter().map(|doomed| doomed.id).collect();
    ids.extend([fresh, running.image, linked.image]);
    world.sql("DELETE FROM image_attempt").await;
    assert_eq!(images::delete_marked(&mut connection, &ids).await.unwrap(), 4, "only what is marked");
    assert_eq!(world.trail().await, ["media/x/1"], "a write to it may still come");
    assert_eq!(images::delete_marked(&mut connection, &ids).await.unwrap(), 0);
    assert_eq!(world.stand.count("image").await.unwrap(), 3);
}

#[tokio::test]
async fn a_row_whose_sweep_died_is_taken_over_after_its_lease() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    let image = world.pending(world.user, ImagePath::Post).await;
    world.age(image, 4000).await;
    assert_eq!(images::mark_expired(&mut connection, PENDING_TTL, 500).await.unwrap().len(), 1);
    for (age, taken) in [(44, 0), (46, 1), (0, 0)] {
        world.sql(&format!("UPDATE image SET deleting_at = deleting_at - {age} * interval '1 s'")).await;
        assert_eq!(
            images::mark_expired(&mut connection, PENDING_TTL, 500).await.unwrap().len(),
            taken,
            "after {age} s"
        );
    }
}

/// Two sweeps at the same moment: the rows of the first one's unfinished transaction are neither waited for nor taken twice.
#[tokio::test]
async fn rows_that_another_sweep_is_taking_are_skipped() {
    let world = World::new().await;
    let (mut connection, mut other) = (world.connection().await, world.connection().await);
    let mut images: Vec<[ImageId; 3]> = Vec::new();
    // The oldest rows are taken first.
    for age in [5000, 4000] {
        let expired = world.pending(world.user, ImagePath::Post).await;
        world.age(expired, age).await;
        let linked = world.held(world.user, ImagePath::UserProfile).await;
        profile_images::link(&mut connection, &linked.verified()).await.unwrap().unwrap();
        let left = world.held(world.user, ImagePath::Post).await;
        let make_due = format!(
            "UPDATE image SET linked_at = now() - {age} * interval '1 s' WHERE id = '{}';
             UPDATE image_attempt SET until = now() - {age} * interval '1 s' WHERE id = '{}'",
            linked.image, left.attempt
        );
        world.sql(&make_due).await;
        images.push([expired, linked.image, left.image]);
    }
    connection.batch_execute("BEGIN").await.unwrap();
    other.batch_execute("BEGIN; SET LOCAL lock_timeout = '2 s'").await.unwrap();
    let first = taken(&mut connection, 1).await;
    let second = taken(&mut other, 2).await;
    for connection in [&mut connection, &mut other] {
        connection.batch_execute("COMMIT").await.unwrap();
    }
    assert_eq!((first, second), (images[0].map(|image| vec![image]), images[1].map(|image| vec![image])));
}

/// The images of the rows that a sweep takes now: expired ones, incoming keys of linked ones, and what attempts left.
async fn taken(connection: &mut Connection, limit: u32) -> [Vec<ImageId>; 3] {
    let expired = images::mark_expired(connection, PENDING_TTL, limit).await.unwrap();
    let linked = images::take_incoming(connection, FORM_LIFE, limit).await.unwrap();
    let left = image_attempts::take_abandoned(connection, limit).await.unwrap();
    let of_key = |key: &str| media_key_parts(key).unwrap().0;
    [
        expired.into_iter().map(|image| image.id).collect(),
        linked.into_iter().map(|image| image.id).collect(),
        left.into_iter().map(|left| of_key(&left.key)).collect(),
    ]
}

#[tokio::test]
async fn a_batch_is_bounded_and_takes_the_oldest() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    let mut by_age = Vec::new();
    for age in [5000, 4000, 4500] {
        let image = images::insert_pending(&mut connection, &new_image(world.user, ImagePath::Post), &Quota::UNLIMITED)
            .await
            .unwrap()
            .unwrap();
        world.age(image.id, age).await;
        by_age.push((age, image.id));
    }
    by_age.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
    for (_, oldest) in by_age {
        let doomed = images::mark_expired(&mut connection, PENDING_TTL, 1).await.unwrap();
        assert_eq!(doomed.iter().map(|doomed| doomed.id).collect::<Vec<_>>(), [oldest]);
    }
}

#[tokio::test]
async fn a_linked_image_s_incoming_key_is_emptied_once_when_its_forms_are_dead() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    let held = world.held(world.user, ImagePath::UserProfile).await;
    let pending = world.held(world.user, ImagePath::UserProfile).await;
    profile_images::link(&mut connection, &held.verified()).await.unwrap().unwrap();
    world.age(pending.image, 3500).await;
    let due = images::LinkedIncoming { id: held.image, media_version: None };
    for (age, taken) in [(0, vec![]), (539, vec![]), (541, vec![due.clone()])] {
        world
            .sql(&format!("UPDATE image SET linked_at = now() - {age} * interval '1 s' WHERE linked_at IS NOT NULL"))
            .await;
        assert_eq!(images::take_incoming(&mut connection, FORM_LIFE, 500).await.unwrap(), taken, "after {age} s");
    }
    // The sweep that took it has died.
    for (age, taken) in [(0, vec![]), (44, vec![]), (2, vec![due.clone()])] {
        world.sql(&format!("UPDATE image SET incoming_due_at = incoming_due_at - {age} * interval '1 s'")).await;
        assert_eq!(images::take_incoming(&mut connection, FORM_LIFE, 500).await.unwrap(), taken, "{age} s later");
    }
    let both = [held.image, pending.image];
    assert_eq!(images::incoming_emptied(&mut connection, &both).await.unwrap(), 1, "one of them is not linked");
    assert_eq!(images::incoming_emptied(&mut connection, &both).await.unwrap(), 0);
    world.sql("UPDATE image SET linked_at = linked_at - interval '1 y' WHERE linked_at IS NOT NULL").await;
    assert_eq!(images::take_incoming(&mut connection, FORM_LIFE, 500).await.unwrap(), []);
    assert_eq!(world.value("SELECT count(*) FROM image WHERE incoming_due_at IS NULL").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn what_an_attempt_left_is_taken_when_no_write_can_come_any_more() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    let held = world.held(world.user, ImagePath::Post).await;
    // 45 s for the lease, and ten minutes for a write that the store has not finished.
    for (age, taken) in [(0, 0), (600, 0), (60, 1), (0, 0), (30, 0), (30, 1)] {
        world.sql(&format!("UPDATE image_attempt SET until = until - {age} * interval '1 s'")).await;
        let abandoned = image_attempts::take_abandoned(&mut connection, 500).await.unwrap();
        assert_eq!(abandoned.len(), taken, "{age} s later");
        assert!(abandoned.iter().all(|abandoned| abandoned.key == held.media_key));
    }
    let ids = [held.attempt.uuid(), new_attempt().uuid()];
    assert_eq!(image_attempts::forget(&mut connection, &ids).await.unwrap(), 1);
    assert_eq!(world.trail().await, [""; 0]);
}

#[tokio::test]
async fn a_key_that_its_image_names_is_never_taken() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    let held = world.held(world.user, ImagePath::UserProfile).await;
    profile_images::link(&mut connection, &held.verified()).await.unwrap().unwrap();
    let insert = format!(
        "INSERT INTO image_attempt (id, image_id, key, until)
         SELECT gen_random_uuid(), id, media_key, now() - interval '1 h' FROM image WHERE id = '{}'",
        held.image
    );
    world.sql(&insert).await;
    assert_eq!(image_attempts::take_abandoned(&mut connection, 500).await.unwrap(), []);
    assert_eq!(world.trail().await, [""; 0]);
}

#[tokio::test]
async fn the_trail_is_read_by_its_index() {
    let world = World::new().await;
    let insert = "INSERT INTO image_attempt (id, image_id, key, until)
        SELECT gen_random_uuid(), gen_random_uuid(), 'media/x/' || n, now() + n * interval '1 s'
        FROM generate_series(-500, 100000) AS n";
    world.sql(insert).await;
    world.sql("ANALYZE image_attempt").await;
    let plan = "EXPLAIN SELECT id FROM image_attempt
        WHERE until < now() AND NOT EXISTS (
            SELECT FROM image WHERE image.id = image_attempt.image_id AND image.media_key = image_attempt.key
        ) ORDER BY until LIMIT 500 FOR UPDATE SKIP LOCKED";
    let plan = world.stand.sql(plan).await.unwrap();
    let plan: Vec<String> = plan.into_iter().flatten().flatten().collect();
    assert!(plan.iter().any(|line| line.contains("image_attempt_until")), "{plan:#?}");
}
