//! The view `image_link`: it contains every link table, and statements that read it use only indexes.

use std::collections::BTreeSet;

use diesel::{QueryableByName, result::Error, sql_types::Text};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use upload_domain::{ImagePath, LinkKind};
use upload_persistence::{Connection, images, profile_images};

use crate::world::{CUTOFF, World};

/// Ten thousand profiles, posters and posts, each with its image, owner and link.
pub const FILL: &str = r#"
    INSERT INTO "user" (id, role) SELECT gen_random_uuid(), 'USER' FROM generate_series(1, 30000);
    INSERT INTO image (id, user_id, path, format, linked_at, byte_size, media_byte_size, media_key, width, height)
        SELECT id, id, 'post', 'image/png', now(), 1, 1, 'media/x', 1, 1 FROM "user";
    CREATE TABLE dealt AS SELECT id, row_number() OVER (ORDER BY id) % 3 AS link FROM "user";
    INSERT INTO user_profile_image (user_id, image_id) SELECT id, id FROM dealt WHERE link = 0;
    INSERT INTO competition (id, title, host_user_id) SELECT id, '', id FROM dealt WHERE link = 1;
    INSERT INTO competition_poster_image (competition_id, image_id) SELECT id, id FROM dealt WHERE link = 1;
    INSERT INTO post (id, user_id, title, content) SELECT id, id, '', '' FROM dealt WHERE link = 2;
    INSERT INTO post_image (post_id, image_id, sequence) SELECT id, id, 0 FROM dealt WHERE link = 2;
    ANALYZE
"#;

/// A line of text in an answer.
#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

#[tokio::test]
async fn every_table_that_refers_to_an_image_is_in_the_view() {
    let world = World::new().await;
    let sql = "SELECT DISTINCT conrelid::regclass::text FROM pg_constraint
               WHERE contype = 'f' AND confrelid = 'image'::regclass
               EXCEPT SELECT table_name FROM information_schema.view_column_usage
               WHERE view_name = 'image_link' AND column_name = 'image_id'";
    let forgotten = world.stand.sql(sql).await.unwrap();
    assert_eq!(forgotten, Vec::<Vec<Option<String>>>::new(), "link tables that image_link lacks");
}

#[tokio::test]
async fn the_views_words_are_the_kinds_of_target() {
    let world = World::new().await;
    let sql = "SELECT (regexp_matches(pg_get_viewdef('image_link'::regclass), '''(.*?)''::text', 'g'))[1]";
    let words = world.stand.sql(sql).await.unwrap().into_iter().flatten().flatten();
    let kinds = LinkKind::ALL.iter().map(ToString::to_string);
    assert_eq!(words.collect::<BTreeSet<_>>(), kinds.collect());
}

#[tokio::test]
async fn a_target_that_the_code_does_not_know_is_an_error() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    let held = world.held(world.user, ImagePath::UserProfile).await;
    profile_images::link(&mut connection, &held.verified()).await.unwrap().unwrap();
    for (change, expected) in [
        ("'trophy'", "`trophy` is not one of profile, poster, post"),
        ("'profile' WHERE false", "the image is linked, but image_link does not say to what"),
    ] {
        let (word, condition) = change.split_once(' ').unwrap_or((change, ""));
        let sql = format!(
            "CREATE OR REPLACE VIEW image_link AS
             SELECT image_id, {word} AS target, user_id AS target_id, deleted_at AS ended_at
             FROM user_profile_image {condition}"
        );
        world.sql(&sql).await;
        let standing = images::standing(&mut connection, held.image, None, CUTOFF).await;
        let error = standing.unwrap_err();
        assert!(matches!(error, Error::DeserializationError(_)), "{change}: {error:?}");
        assert!(error.to_string().contains(expected), "{change}: {error}");
    }
}

#[tokio::test]
async fn what_reads_the_view_goes_by_indexes_alone() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    connection.batch_execute(FILL).await.unwrap();
    let image = world.pending(world.user, ImagePath::Post).await;

    images::find_served(&mut connection, image).await.unwrap();
    let served = plan(&world, &mut connection, "SELECT media_key", &format!("'{image}'")).await;
    images::standing(&mut connection, image, Some(world.user), CUTOFF).await.unwrap();
    let values = format!("'{image}', '{}', '1 h', '{{USER}}'", world.user);
    let standing = plan(&world, &mut connection, "SELECT\n", &values).await;
    for plan in [served, standing] {
        let lines = |what: &str| plan.iter().filter(|line| line.contains(what)).count();
        // The image, the three link tables and the posts. The statement for the standing also reads the owner.
        assert!(lines("Index Scan") >= 5 && lines("Index Scan") == lines("Index Cond:"), "{plan:#?}");
        assert_eq!(lines("Seq Scan") + lines("Bitmap"), 0, "{plan:#?}");
    }
}

/// Postgres's generic plan, for all values, of the prepared statement of this connection that begins with `beginning`.
pub async fn plan(world: &World, connection: &mut Connection, beginning: &str, values: &str) -> Vec<String> {
    explain(world, connection, "force_generic_plan", beginning, values).await
}

/// Postgres's plan for these values.
pub async fn custom_plan(world: &World, connection: &mut Connection, beginning: &str, values: &str) -> Vec<String> {
    explain(world, connection, "force_custom_plan", beginning, values).await
}

async fn explain(world: &World, connection: &mut Connection, mode: &str, beginning: &str, values: &str) -> Vec<String> {
    let prepared = format!(
        "SELECT format('PREPARE it (%s) AS %s', array_to_string(parameter_types, ', '), statement) AS line
         FROM pg_prepared_statements WHERE starts_with(statement, '{beginning}')"
    );
    let prepare: Line = diesel::sql_query(prepared).get_result(connection).await.unwrap();
    let explain = format!("SET plan_cache_mode = {mode}; {}; EXPLAIN EXECUTE it ({values})", prepare.line);
    world.stand.sql(&explain).await.unwrap().into_iter().flatten().flatten().collect()
}
