//! Up, down, and up again.

use upload_persistence::migrations;

use crate::world::World;

const COLUMNS: &str = "SELECT string_agg(format('%s.%s %s %s', table_name, column_name, data_type, is_nullable), E'\\n' \
                       ORDER BY table_name, ordinal_position) FROM information_schema.columns WHERE table_schema = 'public'";

#[tokio::test]
async fn migrations_go_up_and_down_and_up_again() {
    let world = World::new().await;
    let settings = &world.stand.database_settings;
    let before = world.value(COLUMNS).await;
    assert_eq!(migrations::run(settings).await.unwrap(), Vec::<String>::new(), "the stand has them all");

    let reverted = migrations::revert_all(settings).await.unwrap();
    let left = "SELECT string_agg(tablename, ' ') FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(world.value(left).await.as_deref(), Some("__diesel_schema_migrations"));

    let mut applied = migrations::run(settings).await.unwrap();
    assert_eq!(world.value(COLUMNS).await, before);
    assert_eq!(applied.len(), 4);
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
    assert_eq!(applied, [0, 4]);
}

#[tokio::test]
async fn every_table_and_column_has_a_comment() {
    let world = World::new().await;
    let without = world
        .stand
        .sql(
            "SELECT c.relname, a.attname FROM pg_class c
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> '__diesel_schema_migrations'
                 AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid) IS NULL)",
        )
        .await
        .unwrap();
    assert_eq!(without, Vec::<Vec<Option<String>>>::new());
}
