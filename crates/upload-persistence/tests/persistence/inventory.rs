//! Which objects the rows name.

use diesel_async::SimpleAsyncConnection;
use upload_domain::{ImageId, ImagePath, incoming_key, media_key};
use upload_persistence::inventory::{self, FoundKey};
use uuid::Uuid;

use crate::{
    image_links::{FILL, plan},
    world::{World, new_attempt},
};

fn incoming(image: ImageId) -> FoundKey {
    FoundKey { key: incoming_key(image), image, attempt: None }
}

fn media(image: ImageId) -> FoundKey {
    let attempt = new_attempt();
    FoundKey { key: media_key(image, attempt), image, attempt: Some(attempt) }
}

#[tokio::test]
async fn a_key_is_named_by_its_image_an_attempt_or_the_trail() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    let pending = world.pending(world.user, ImagePath::Post).await;
    let (linked, pinned) =
        (world.pending(world.user, ImagePath::Post).await, world.pending(world.user, ImagePath::Post).await);
    // The image of the second one is pinned by version, but the trail means every version of its key.
    let (copy, trails) = (media(linked), [media(ImageId::from(Uuid::now_v7())), media(pinned)]);
    for (image, key, version, due) in
        [(linked, &copy.key, "NULL", "now()"), (pinned, &incoming_key(pinned), "'v1'", "NULL")]
    {
        world.sql(&format!(
            "UPDATE image SET linked_at = now(), byte_size = 5, media_byte_size = 5, width = 1, height = 1, media_key = '{key}',
                 media_version = {version}, incoming_due_at = {due} WHERE id = '{image}'"
        )).await;
    }
    for trail in &trails {
        let FoundKey { key, image, attempt } = trail;
        let insert = format!(
            "INSERT INTO image_attempt (id, image_id, key, until) VALUES ('{}', '{image}', '{key}', now())",
            attempt.unwrap()
        );
        world.sql(&insert).await;
    }
    let [trail, of_pinned] = trails;
    let named = [incoming(pending), copy, incoming(linked), incoming(pinned), trail, of_pinned];
    let not_named = [incoming(ImageId::from(Uuid::now_v7())), media(pending), media(linked), media(pinned)];
    let found: Vec<FoundKey> = named.iter().chain(&not_named).cloned().collect();
    let mut answer = inventory::find_named(&mut connection, &found).await.unwrap();
    answer.sort_by_key(|named| found.iter().position(|found| found.key == named.key));
    assert_eq!(
        answer.iter().map(|named| &named.key).collect::<Vec<_>>(),
        named.iter().map(|found| &found.key).collect::<Vec<_>>()
    );
    let versions: Vec<Option<&str>> = answer.iter().map(|named| named.only_version.as_deref()).collect();
    assert_eq!(versions, [None, None, None, Some("v1"), None, None]);

    // A sweep has emptied the incoming key for good. What is there now came later.
    world.sql(&format!("UPDATE image SET incoming_due_at = NULL WHERE id = '{linked}'")).await;
    assert_eq!(inventory::find_named(&mut connection, &[incoming(linked)]).await.unwrap(), []);
}

/// Servers of an earlier release wrote no trail, and a sweep may die between the object and the row.
#[tokio::test]
async fn a_live_attempt_names_its_key_and_a_tombstone_the_incoming_one() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    let held = world.held(world.user, ImagePath::Post).await;
    let running = FoundKey { key: held.media_key.clone(), image: held.image, attempt: Some(held.attempt) };
    world.sql("DELETE FROM image_attempt").await;
    let named = inventory::find_named(&mut connection, std::slice::from_ref(&running)).await.unwrap();
    assert_eq!(named.into_iter().map(|named| named.key).collect::<Vec<_>>(), [held.media_key.as_str()]);
    world.sql("UPDATE image SET attempt = NULL, attempt_kind = NULL, attempt_until = NULL").await;
    assert_eq!(inventory::find_named(&mut connection, &[running]).await.unwrap(), []);

    let ended = world.pending(world.user, ImagePath::UserProfile).await;
    let key = media(ended).key;
    world.sql(&format!(
        "UPDATE image SET linked_at = now(), byte_size = 5, media_byte_size = 5, width = 1, height = 1, media_key = '{key}',
             incoming_due_at = NULL WHERE id = '{ended}'"
    )).await;
    assert_eq!(inventory::find_named(&mut connection, &[incoming(ended)]).await.unwrap(), []);
    world.sql(&format!("UPDATE image SET deleting_at = now() WHERE id = '{ended}'")).await;
    let named = inventory::find_named(&mut connection, &[incoming(ended)]).await.unwrap();
    assert_eq!(named.len(), 1, "the sweep that took it deletes the object");
}

#[tokio::test]
async fn keys_and_pages_are_read_by_indexes_alone() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    connection.batch_execute(FILL).await.unwrap();
    connection
        .batch_execute(
            "INSERT INTO image_attempt (id, image_id, key, until)
             SELECT gen_random_uuid(), gen_random_uuid(), 'media/x/' || n, now() FROM generate_series(1, 30000) AS n;
             ANALYZE image_attempt",
        )
        .await
        .unwrap();
    let first = inventory::list_linked(&mut connection, None, 10).await.unwrap();
    let second = inventory::list_linked(&mut connection, first.last().map(|image| image.id), 10).await.unwrap();
    assert!(first.len() == 10 && second.len() == 10 && first.last().unwrap().id < second.first().unwrap().id);
    inventory::find_named(&mut connection, &[incoming(first[0].id)]).await.unwrap();
    let keys = format!("'{{a}}', '{{{}}}', '{{NULL}}'", first[0].id);
    for (beginning, values) in
        [("SELECT found.key", keys.as_str()), ("SELECT \"image\"", "'00000000-0000-0000-0000-000000000000', 10")]
    {
        let plan = plan(&world, &mut connection, beginning, values).await;
        assert!(plan.iter().any(|line| line.contains("image_pkey")), "{plan:#?}");
        assert!(!plan.iter().any(|line| line.contains("Seq Scan")), "{plan:#?}");
    }
}
