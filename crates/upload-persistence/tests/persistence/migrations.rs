//! The migrations up, down and up again, and whether the binary accepts a schema.

use diesel_async::SimpleAsyncConnection;
use upload_domain::{ImageId, ImagePath, incoming_key};
use upload_persistence::{
    Database, DatabaseError, DatabaseSettings, Verified, image_attempts, images,
    migrations::{self, SchemaStanding},
    profile_images,
};

use uuid::Uuid;

use crate::world::{World, migrations_in_the_folder};

const COLUMNS: &str = "SELECT string_agg(format('%s.%s %s %s', table_name, column_name, data_type, is_nullable), E'\\n' \
                       ORDER BY table_name, ordinal_position) FROM information_schema.columns WHERE table_schema = 'public'";

#[tokio::test]
async fn migrations_go_up_and_down_and_up_again() {
    let world = World::new().await;
    let settings = &world.stand.database_settings;
    let before = world.value(COLUMNS).await;
    assert_eq!(migrations::run(settings).await.unwrap(), Vec::<String>::new(), "the stand has them all");

    let reverted = migrations::revert_all(settings).await.unwrap();
    let left = "SELECT string_agg(table_name, ' ') FROM information_schema.tables WHERE table_schema = 'public'";
    assert_eq!(world.value(left).await.as_deref(), Some("__diesel_schema_migrations"));

    let mut applied = migrations::run(settings).await.unwrap();
    assert_eq!(world.value(COLUMNS).await, before);
    assert_eq!(applied.len(), migrations_in_the_folder());
    applied.reverse();
    assert_eq!(applied, reverted);
}

#[tokio::test]
async fn two_that_migrate_at_once_wait_for_each_other() {
    let world = World::new().await;
    let settings = &world.stand.database_settings;
    migrations::revert_all(settings).await.unwrap();
    let (one, other) = futures::join!(migrations::run(settings), migrations::run(settings));
    let mut applied = [one.unwrap().len(), other.unwrap().len()];
    applied.sort_unstable();
    assert_eq!(applied, [0, migrations_in_the_folder()]);
}

/// Servers go on during a migration. Their writes wait for an index unless it is built concurrently, and only one statement outside of a
/// transaction can do that.
#[test]
fn an_index_on_a_table_that_may_have_rows_locks_nobody_out() {
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations"));
    for entry in std::fs::read_dir(folder).unwrap() {
        let migration = entry.unwrap().path();
        let Ok(up) = std::fs::read_to_string(migration.join("up.sql")) else { continue };
        let statements: Vec<&str> = up.lines().filter(|line| !line.starts_with("--")).collect();
        let statements = statements.join("\n");
        let indexed = statements.lines().filter(|line| line.starts_with("CREATE ") && line.contains(" INDEX "));
        for index in indexed {
            let table = index.split_once(" ON ").unwrap().1.split(' ').next().unwrap();
            if statements.contains(&format!("CREATE TABLE {table} "))
                || statements.contains(&format!("CREATE TABLE \"{table}\""))
            {
                continue;
            }
            let metadata = std::fs::read_to_string(migration.join("metadata.toml")).unwrap_or_default();
            let concurrent = index.contains("CONCURRENTLY") && metadata.trim() == "run_in_transaction = false";
            assert!(concurrent && statements.matches(';').count() == 1, "{}: {index}", migration.display());
        }
    }
}

/// During an upgrade, servers of the previous release run for a while. They do not use the trail.
#[tokio::test]
async fn attempts_that_run_while_the_trail_is_made_are_in_it() {
    let world = World::new().await;
    let [finished, died] =
        [world.held(world.user, ImagePath::Post).await, world.held(world.user, ImagePath::Post).await];
    world.sql(include_str!("../../../../migrations/2026-11-26-000001_image_attempts/down.sql")).await;
    world.sql(include_str!("../../../../migrations/2026-11-26-000001_image_attempts/up.sql")).await;
    let mut trail = world.trail().await;
    trail.sort();
    assert_eq!(trail, [finished.media_key.clone(), died.media_key.clone()]);

    // They commit without touching the trail. The key then belongs to the image, and no sweep takes it.
    let commit = format!(
        "UPDATE image SET media_key = '{}', media_byte_size = 1, width = 1, height = 1,
             attempt = NULL, attempt_kind = NULL, attempt_until = NULL
         WHERE id = '{}'",
        finished.media_key, finished.image
    );
    world.sql(&commit).await;
    world.sql("UPDATE image_attempt SET until = now() - interval '1 s'").await;
    let mut connection = world.connection().await;
    let abandoned = image_attempts::take_abandoned(&mut connection, 500).await.unwrap();
    let abandoned: Vec<String> = abandoned.into_iter().map(|one| one.key).collect();
    assert_eq!(abandoned, std::slice::from_ref(&died.media_key));
    assert_eq!(world.trail().await, [died.media_key]);
}

/// Only the row says which version was verified.
#[tokio::test]
async fn versions_stay_known_while_an_image_is_pinned_by_one() {
    const DOWN: &str = include_str!("../../../../migrations/2026-11-27-000003_media_versions/down.sql");
    let world = World::new().await;
    let held = world.held(world.user, ImagePath::UserProfile).await;
    let incoming = incoming_key(held.image);
    let verified = Verified { media_key: &incoming, media_version: Some("v"), ..held.verified() };
    let mut connection = world.connection().await;
    profile_images::link(&mut connection, &verified).await.unwrap().unwrap();
    let error = world.stand.sql(DOWN).await.unwrap_err();
    assert!(format!("{error:#}").contains("pinned by version"), "{error:#}");
    world.sql("UPDATE image SET media_key = 'media/x', media_version = NULL").await;
    world.sql(DOWN).await;
    world.sql(include_str!("../../../../migrations/2026-11-27-000003_media_versions/up.sql")).await;
}

#[tokio::test]
async fn every_table_view_and_column_has_a_comment() {
    let world = World::new().await;
    let without = world
        .stand
        .sql(
            "SELECT c.relname, a.attname FROM pg_class c
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v') AND c.relname <> '__diesel_schema_migrations'
                 AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid) IS NULL)",
        )
        .await
        .unwrap();
    assert_eq!(without, Vec::<Vec<Option<String>>>::new());
}

#[tokio::test]
async fn a_schema_is_current_older_or_newer_than_the_binary() {
    let world = World::new().await;
    let (settings, database) = (&world.stand.database_settings, &world.stand.database);
    let standing = async || migrations::standing(database).await.unwrap();
    assert_eq!(standing().await, SchemaStanding::Current);

    let sql =
        "DELETE FROM __diesel_schema_migrations WHERE version = (SELECT max(version) FROM __diesel_schema_migrations)
               RETURNING version";
    let last = world.value(sql).await.unwrap();
    assert_eq!(standing().await, SchemaStanding::Older { missing: vec![last.clone()] });

    world.sql("INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000002'), ('99990101000001')").await;
    let unknown = vec!["99990101000001".to_owned(), "99990101000002".to_owned()];
    assert_eq!(standing().await, SchemaStanding::Newer { unknown: unknown.clone() }, "even where one is missing");
    world.sql(&format!("INSERT INTO __diesel_schema_migrations (version) VALUES ('{last}')")).await;
    assert_eq!(standing().await, SchemaStanding::Newer { unknown });

    world.sql("DELETE FROM __diesel_schema_migrations WHERE version > '9999'").await;
    let mut all = migrations::revert_all(settings).await.unwrap();
    all.reverse();
    assert_eq!(standing().await, SchemaStanding::Older { missing: all.clone() }, "the table is empty");
    world.sql("DROP TABLE __diesel_schema_migrations").await;
    assert_eq!(standing().await, SchemaStanding::Older { missing: all }, "the database is empty");
    migrations::run(settings).await.unwrap();
    assert_eq!(standing().await, SchemaStanding::Current);
}

#[tokio::test]
async fn the_servers_role_may_ask_for_standing_and_clock_and_another_is_told_that_it_may_not() {
    let world = World::new().await;
    let role = format!("role_{}", world.user.to_string().replace('-', ""));
    let rights = format!(
        "CREATE ROLE {role} LOGIN PASSWORD '{role}';
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
    );
    world.sql(&rights).await;
    let (_, host) = world.stand.database_url.split_once('@').unwrap();
    let settings = DatabaseSettings::for_url(format!("postgres://{role}:{role}@{host}"));
    let database = Database::new(&settings, world.stand.runtime().clone()).unwrap();
    assert_eq!(migrations::standing(&database).await.unwrap(), SchemaStanding::Current);
    database.now().await.unwrap();
    let mut connection = database.connection().await.unwrap();
    assert_eq!(
        images::find_served(&mut connection, ImageId::from(Uuid::now_v7())).await.unwrap(),
        None,
        "it may read the view"
    );
    drop(connection);
    database.connection().await.unwrap().batch_execute("DROP TABLE post_image").await.unwrap_err();

    world.sql(&format!("REVOKE ALL ON __diesel_schema_migrations FROM {role}")).await;
    let error = migrations::standing(&database).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Query(_)), "it is there, so it is not taken for missing: {error:?}");
    assert!(format!("{error:?}").contains("permission denied"), "{error:?}");
    world.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn the_clock_is_the_databases_and_goes_on_between_two_looks() {
    let world = World::new().await;
    let first = world.stand.database.now().await.unwrap();
    let theirs = world.value("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").await.unwrap();
    let second = world.stand.database.now().await.unwrap();
    let theirs: i64 = theirs.parse().unwrap();
    assert!(first.timestamp_micros() <= theirs && theirs <= second.timestamp_micros(), "{first} {theirs} {second}");
}
