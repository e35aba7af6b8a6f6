//! Postgres itself enforces the rules: it refuses SQL that breaks one.

use upload_domain::{ImageFormat, ImagePath, Refusal, Role, UserStatus};
use upload_persistence::profile_images;

use crate::world::World;

/// Runs SQL that must fail, and returns the constraint that stopped it.
async fn broken(world: &World, sql: &str) -> String {
    let error = world.stand.sql(sql).await.expect_err(sql);
    format!("{error:#}")
}

#[tokio::test]
async fn enumerations_take_only_their_words() {
    let world = World::new().await;
    let user = world.user;
    world.held(user, ImagePath::Post).await;
    for sql in [
        "UPDATE \"user\" SET role = 'ROOT'",
        "UPDATE \"user\" SET status = 'active'",
        "UPDATE image SET path = 'avatar'",
        "UPDATE image SET format = 'image/svg+xml'",
        "UPDATE image SET attempt_kind = 'sweep'",
        "UPDATE image SET refused_code = 'ugly'",
        "UPDATE image SET byte_size = 0",
        "UPDATE image SET checksum_sha256 = '\\x00'",
        "UPDATE image SET media_key = 'incoming/x', media_byte_size = 1, width = 1, height = 1",
        "UPDATE image SET media_key = 'media/x', media_version = 'v', media_byte_size = 1, width = 1, height = 1",
        "UPDATE image SET media_key = 'incoming/' || id, media_version = 'v', media_byte_size = 1, width = 1, height = 1",
        "UPDATE image SET media_version = 'v'",
        "UPDATE image SET width = 0, media_byte_size = 1, media_key = 'media/x', height = 1",
    ] {
        let error = broken(&world, sql).await;
        assert!(error.contains("violates check constraint"), "{sql}: {error}");
    }
}

#[tokio::test]
async fn enumerations_take_each_of_the_domains_words() {
    let world = World::new().await;
    for (constraint, words) in [
        ("user_role_check", Role::WORDS),
        ("user_status_check", UserStatus::WORDS),
        ("image_path_check", ImagePath::WORDS),
        ("image_format_check", ImageFormat::WORDS),
        ("image_refused_code_check", Refusal::WORDS),
    ] {
        let sql = format!(
            "SELECT string_agg(word[1], ', ')
             FROM pg_constraint, regexp_matches(pg_get_constraintdef(oid), '''(.*?)''', 'g') AS word
             WHERE conname = '{constraint}'"
        );
        assert_eq!(world.value(&sql).await.as_deref(), Some(words), "{constraint}");
    }
}

#[tokio::test]
async fn a_row_is_always_in_one_of_its_states() {
    let world = World::new().await;
    world.held(world.user, ImagePath::Post).await;
    for (sql, constraint) in [
        ("UPDATE image SET attempt_until = NULL", "image_attempt_is_whole"),
        ("UPDATE image SET attempt_kind = NULL", "image_attempt_is_whole"),
        ("UPDATE image SET media_key = 'media/x'", "image_media_is_whole"),
        ("UPDATE image SET width = 3", "image_media_is_whole"),
        ("UPDATE image SET linked_at = now()", "image_linked_is_final"),
    ] {
        let error = broken(&world, sql).await;
        assert!(error.contains(constraint), "{sql}: {error}");
    }
}

#[tokio::test]
async fn what_is_linked_is_final() {
    let world = World::new().await;
    let held = world.held(world.user, ImagePath::UserProfile).await;
    let mut connection = world.connection().await;
    profile_images::link(&mut connection, &held.verified()).await.unwrap().unwrap();
    let attempt = "UPDATE image SET attempt = id, attempt_kind = 'link', attempt_until = now()";
    for sql in [
        "UPDATE image SET refused_code = 'empty_file'",
        "UPDATE image SET media_key = NULL, media_byte_size = NULL, width = NULL, height = NULL",
        attempt,
    ] {
        let error = broken(&world, sql).await;
        assert!(error.contains("image_linked_is_final"), "{sql}: {error}");
    }
    // A version is one of the image's own incoming key.
    for (key, version) in [("'incoming/x'", "'v'"), ("'incoming/' || id", "''"), ("'incoming/' || id", "NULL")] {
        let sql = format!("UPDATE image SET media_key = {key}, media_version = {version}");
        let error = broken(&world, &sql).await;
        assert!(error.contains("image_media_key_check"), "{sql}: {error}");
    }
    world.sql("UPDATE image SET media_key = 'incoming/' || id, media_version = 'v'").await;
    for sql in ["DELETE FROM image", "DELETE FROM \"user\""] {
        let error = broken(&world, sql).await;
        assert!(error.contains("violates foreign key constraint"), "{sql}: {error}");
    }
}

#[tokio::test]
async fn an_image_is_linked_once_and_one_link_is_live() {
    let world = World::new().await;
    let host = world.add_user(Role::Host).await;
    let competition = world.competition(host).await;
    let (one, other) = (world.pending(host, ImagePath::Post).await, world.pending(host, ImagePath::Post).await);
    world.sql(&format!("INSERT INTO user_profile_image (user_id, image_id) VALUES ('{host}', '{one}')")).await;
    world
        .sql(&format!(
            "INSERT INTO competition_poster_image (competition_id, image_id) VALUES ('{competition}', '{one}')"
        ))
        .await;
    world.sql(&format!("INSERT INTO post (id, user_id, title, content) VALUES ('{host}', '{host}', '', '')")).await;
    world.sql(&format!("INSERT INTO post_image (post_id, image_id, sequence) VALUES ('{host}', '{one}', 0)")).await;

    let deleted = "deleted_at) VALUES";
    for (sql, constraint) in [
        (
            format!("INSERT INTO user_profile_image (user_id, image_id, {deleted} ('{host}', '{one}', now())"),
            "user_profile_image_image_id_key",
        ),
        (
            format!("INSERT INTO user_profile_image (user_id, image_id) VALUES ('{host}', '{other}')"),
            "user_profile_image_live",
        ),
        (
            format!(
                "INSERT INTO competition_poster_image (competition_id, image_id, {deleted} ('{competition}', '{one}', now())"
            ),
            "competition_poster_image_image_id_key",
        ),
        (
            format!(
                "INSERT INTO competition_poster_image (competition_id, image_id) VALUES ('{competition}', '{other}')"
            ),
            "competition_poster_image_live",
        ),
        (
            format!("INSERT INTO post_image (post_id, image_id, sequence) VALUES ('{host}', '{one}', 1)"),
            "post_image_image_id_key",
        ),
        (
            format!("INSERT INTO post_image (post_id, image_id, sequence) VALUES ('{host}', '{other}', 0)"),
            "post_image_place",
        ),
        (
            format!("INSERT INTO post_image (post_id, image_id, sequence) VALUES ('{host}', '{other}', -1)"),
            "post_image_sequence_check",
        ),
    ] {
        let error = broken(&world, &sql).await;
        assert!(error.contains(constraint), "{sql}: {error}");
    }
}
