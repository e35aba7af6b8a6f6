//! Links that ended long ago: what is taken, what goes with it, and by which indexes.

use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use upload_domain::ImagePath;
use upload_persistence::{ended_links, profile_images};

use crate::{
    image_links::{FILL, custom_plan},
    world::World,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test]
async fn an_image_is_taken_once_and_goes_with_its_link() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    let (first, second) =
        (world.held(world.user, ImagePath::UserProfile).await, world.held(world.user, ImagePath::UserProfile).await);
    for held in [&first, &second] {
        profile_images::link(&mut connection, &held.verified()).await.unwrap().unwrap();
    }
    world.sql("UPDATE user_profile_image SET deleted_at = now() - interval '25 h' WHERE deleted_at IS NOT NULL").await;
    assert_eq!(ended_links::mark(&mut connection, 2 * DAY, 500).await.unwrap(), []);
    let taken = ended_links::mark(&mut connection, DAY, 500).await.unwrap();
    assert_eq!(taken.iter().map(|image| image.id).collect::<Vec<_>>(), [first.image]);
    assert_eq!(ended_links::mark(&mut connection, DAY, 500).await.unwrap(), [], "another sweep has it");

    let live = ended_links::delete_marked(&mut connection, &[second.image]).await.unwrap();
    assert_eq!(live, 0, "nobody took it");
    assert_eq!(ended_links::delete_marked(&mut connection, &[first.image]).await.unwrap(), 1);
    assert_eq!(world.value("SELECT count(*) FROM image").await.as_deref(), Some("1"));
    assert_eq!(world.value("SELECT image_id FROM user_profile_image").await, Some(second.image.to_string()));
}

#[tokio::test]
async fn ended_links_are_read_by_indexes_alone() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    connection.batch_execute(FILL).await.unwrap();
    let end = "UPDATE user_profile_image SET deleted_at = now() - interval '2 d' WHERE id IN (SELECT id FROM user_profile_image LIMIT 20);
        UPDATE competition_poster_image SET deleted_at = now() - interval '2 d'
            WHERE id IN (SELECT id FROM competition_poster_image LIMIT 20);
        UPDATE post SET deleted_at = now() - interval '2 d' WHERE id IN (SELECT id FROM post LIMIT 20);
        VACUUM ANALYZE user_profile_image; VACUUM ANALYZE competition_poster_image; VACUUM ANALYZE post";
    for statement in end.split(';') {
        connection.batch_execute(statement).await.unwrap();
    }
    assert_eq!(ended_links::mark(&mut connection, DAY, 500).await.unwrap().len(), 60);
    assert_eq!(ended_links::delete_posts(&mut connection, DAY, 500).await.unwrap(), 0, "their images are not gone yet");
    for (part, values) in [("SELECT image.id", "'1 d', '45 s', 500"), ("SELECT id FROM post", "'1 d', 500")] {
        let beginning = format!("WITH ended AS MATERIALIZED (\n             {part}");
        let plan = custom_plan(&world, &mut connection, &beginning, values).await;
        assert!(plan.iter().any(|line| line.contains("post_deleted_at")), "{plan:#?}");
        assert!(!plan.iter().any(|line| line.contains("Seq Scan")), "{plan:#?}");
    }
}
