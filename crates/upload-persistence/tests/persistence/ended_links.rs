//! Links that ended long ago: what is taken, what goes with it, and by which indexes.

use std::time::Duration;

use diesel::sql_types::Text;
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use upload_domain::ImagePath;
use upload_persistence::{ended_links, profile_images};

use crate::{
    image_links::{FILL, custom_plan},
    world::World,
};

/// A prepared statement.
#[derive(diesel::QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    statement: String,
}

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

/// Two sweeps at the same moment: the rows of the first one's unfinished transaction are neither waited for nor taken twice.
#[tokio::test]
async fn rows_that_another_sweep_is_taking_are_skipped() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    let mut images = Vec::new();
    for _ in 0..3 {
        let held = world.held(world.user, ImagePath::UserProfile).await;
        profile_images::link(&mut connection, &held.verified()).await.unwrap().unwrap();
        images.push(held.image);
    }
    // The oldest link is taken first.
    for (image, hours) in images.iter().zip([25, 26]) {
        let end = format!(
            "UPDATE user_profile_image SET deleted_at = now() - interval '{hours} h' WHERE image_id = '{image}'"
        );
        world.sql(&end).await;
    }
    let posts = format!(
        "INSERT INTO post (id, user_id, title, content, deleted_at)
         SELECT gen_random_uuid(), '{}', '', '', now() - interval '25 h' FROM generate_series(1, 2)",
        world.user
    );
    world.sql(&posts).await;
    let mut other = world.connection().await;
    connection.batch_execute("BEGIN").await.unwrap();
    other.batch_execute("BEGIN; SET LOCAL lock_timeout = '10 s'").await.unwrap();
    let first = ended_links::mark(&mut connection, DAY, 1).await.unwrap();
    let second = ended_links::mark(&mut other, DAY, 2).await.unwrap();
    assert_eq!(ended_links::delete_posts(&mut connection, DAY, 1).await.unwrap(), 1);
    assert_eq!(ended_links::delete_posts(&mut other, DAY, 2).await.unwrap(), 1, "the other post");
    for connection in [&mut connection, &mut other] {
        connection.batch_execute("COMMIT").await.unwrap();
    }
    let ids = |taken: Vec<ended_links::Ended>| taken.into_iter().map(|image| image.id).collect::<Vec<_>>();
    assert_eq!((ids(first), ids(second)), (vec![images[1]], vec![images[0]]));
}

/// What refers to an image must go before it.
#[tokio::test]
async fn every_table_that_refers_to_an_image_loses_its_rows() {
    let world = World::new().await;
    let tables = "SELECT DISTINCT conrelid::regclass::text FROM pg_constraint
                  WHERE contype = 'f' AND confrelid = 'image'::regclass";
    let referring: Vec<String> = world.stand.sql(tables).await.unwrap().into_iter().flatten().flatten().collect();
    let mut connection = world.connection().await;
    ended_links::delete_marked(&mut connection, &[]).await.unwrap();
    let statement = "SELECT statement FROM pg_prepared_statements WHERE starts_with(statement, 'WITH marked')";
    let mut prepared: Vec<Line> = diesel::sql_query(statement).load(&mut connection).await.unwrap();
    let statement = prepared.remove(0).statement;
    for table in referring {
        assert!(statement.contains(&format!("DELETE FROM {table} ")), "delete_marked does not know {table}");
    }
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
    ended_links::delete_marked(&mut connection, &[]).await.unwrap();
    let twenty =
        world.value("SELECT array_agg(id)::text FROM (SELECT id FROM image LIMIT 20) AS twenty").await.unwrap();
    let plan = custom_plan(&world, &mut connection, "WITH marked", &format!("'{twenty}'")).await;
    // The image twice, and each link table.
    for index in
        ["image_pkey", "user_profile_image_image_id", "competition_poster_image_image_id", "post_image_image_id"]
    {
        assert!(plan.iter().any(|line| line.contains(index)), "{index}: {plan:#?}");
    }
    assert!(!plan.iter().any(|line| line.contains("Seq Scan")), "{plan:#?}");
}
