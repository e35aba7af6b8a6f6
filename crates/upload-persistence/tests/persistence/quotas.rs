//! What a user may create: the reasons, the waits, many creates at once, and by which index the rows are read.

use diesel_async::SimpleAsyncConnection;
use futures::future::join_all;
use upload_domain::{ImagePath, Refusal, UserId};
use upload_persistence::{
    image_attempts::{self, Left},
    images::{self, NewImage},
    profile_images,
    quotas::{LEAST_COUNTED_BYTES, NotCreated, Quota},
};

use crate::{
    image_links::FILL,
    world::{PENDING_TTL, World, finished, new_image, new_upload},
};

const MIB: u64 = 1024 * 1024;

const THREE: Quota = Quota { max_pending: 3, pending_for: PENDING_TTL, ..Quota::UNLIMITED };
const TEN_MIB: Quota = Quota { max_bytes_per_day: 10 * MIB, unknown_bytes: 4 * MIB, ..Quota::UNLIMITED };

impl World {
    /// Creates an image of this length, or says why not.
    async fn create(&self, byte_size: Option<u64>, quota: &Quota) -> Result<(), NotCreated> {
        self.insert(&NewImage { byte_size, ..new_image(self.user, ImagePath::Post) }, quota).await
    }

    async fn insert(&self, new: &NewImage, quota: &Quota) -> Result<(), NotCreated> {
        let mut connection = self.connection().await;
        images::insert_pending(&mut connection, new, quota).await.unwrap().map(|_image| ())
    }
}

#[tokio::test]
async fn a_user_waits_for_the_oldest_pending_image_or_links_one() {
    let world = World::new().await;
    for age in [600, 300, 0] {
        let image = world.pending(world.user, ImagePath::Post).await;
        world.age(image, age).await;
    }
    let Err(NotCreated::TooManyPending(wait)) = world.create(None, &THREE).await else { panic!("there are three") };
    assert!((2900..=3000).contains(&wait.as_secs()), "{wait:?}");
    assert_eq!(world.create(None, &Quota { max_pending: 4, ..THREE }).await, Ok(()));
    let Err(NotCreated::TooManyPending(wait)) = world.create(None, &THREE).await else { panic!("there are four") };
    assert!((3200..=3300).contains(&wait.as_secs()), "two of them must go: {wait:?}");

    world.sql("DELETE FROM image").await;
    for _place in 0..2 {
        world.pending(world.user, ImagePath::Post).await;
    }
    let held = world.held(world.user, ImagePath::UserProfile).await;
    assert!(world.create(None, &THREE).await.is_err());
    profile_images::link(&mut *world.connection().await, &held.verified()).await.unwrap().unwrap();
    assert_eq!(world.create(None, &THREE).await, Ok(()), "a linked image takes no place");
    world.sql("UPDATE image SET created_at = now() - interval '61 minutes' WHERE linked_at IS NULL").await;
    assert_eq!(world.create(None, &THREE).await, Ok(()), "nor does one that the sweep should have removed");
}

#[tokio::test]
async fn bytes_count_for_a_day_with_the_length_that_is_known() {
    let world = World::new().await;
    assert_eq!(world.create(Some(6 * MIB), &TEN_MIB).await, Ok(()));
    let Err(NotCreated::TooManyBytes(wait)) = world.create(Some(4 * MIB + 1), &TEN_MIB).await else {
        panic!("one over")
    };
    assert!((86_300..=86_400).contains(&wait.as_secs()), "{wait:?}");
    assert_eq!(world.create(None, &TEN_MIB).await, Ok(()), "it counts as 4 MiB");
    assert!(world.create(Some(1), &TEN_MIB).await.is_err());
    world.sql("UPDATE image SET created_at = now() - interval '23 h' WHERE byte_size IS NULL").await;
    let Err(NotCreated::TooManyBytes(wait)) = world.create(Some(1), &TEN_MIB).await else { panic!("still a day") };
    assert!((3500..=3600).contains(&wait.as_secs()), "the older one goes first: {wait:?}");
    world.sql("UPDATE image SET created_at = now() - interval '25 h' WHERE byte_size IS NULL").await;
    assert_eq!(world.create(Some(4 * MIB), &TEN_MIB).await, Ok(()));

    // An upload that is stored counts with its real length.
    world.sql("DELETE FROM image").await;
    let new = new_upload(world.user, ImagePath::Post);
    let attempt = new.upload.unwrap().attempt;
    assert_eq!(world.insert(&new, &TEN_MIB).await, Ok(()));
    assert!(world.create(Some(7 * MIB), &TEN_MIB).await.is_err());
    let mut connection = world.connection().await;
    let stored = image_attempts::finish_upload(&mut connection, &finished(new.id, attempt, "media/x")).await;
    stored.unwrap().unwrap();
    assert_eq!(world.create(Some(7 * MIB), &TEN_MIB).await, Ok(()));
}

#[tokio::test]
async fn the_longer_wait_is_the_answer_and_forbidden_comes_first() {
    let world = World::new().await;
    let both = Quota { max_pending: 3, pending_for: PENDING_TTL, ..TEN_MIB };
    for _place in 0..3 {
        assert_eq!(world.create(Some(3 * MIB), &both).await, Ok(()));
    }
    assert!(matches!(world.create(Some(MIB), &both).await, Err(NotCreated::TooManyPending(_))));
    assert!(matches!(world.create(Some(2 * MIB), &both).await, Err(NotCreated::TooManyBytes(_))));
    world.deactivate(world.user).await;
    assert_eq!(world.create(Some(2 * MIB), &both).await, Err(NotCreated::Forbidden));
    assert_eq!(world.create(None, &Quota::UNLIMITED).await, Err(NotCreated::Forbidden));
    let nobody = new_image(UserId::from(uuid::Uuid::now_v7()), ImagePath::Post);
    assert_eq!(world.insert(&nobody, &both).await, Err(NotCreated::Forbidden));
}

#[tokio::test]
async fn an_image_counts_as_64_kib_at_least_and_not_at_all_once_its_upload_has_failed() {
    let world = World::new().await;
    let three = Quota { max_bytes_per_day: 3 * LEAST_COUNTED_BYTES, unknown_bytes: 1, ..Quota::UNLIMITED };
    for byte_size in [Some(1), None, Some(LEAST_COUNTED_BYTES)] {
        assert_eq!(world.create(byte_size, &three).await, Ok(()));
    }
    assert!(matches!(world.create(Some(1), &three).await, Err(NotCreated::TooManyBytes(_))));
    world.sql("DELETE FROM image").await;

    let both = Quota { max_pending: 3, pending_for: PENDING_TTL, ..three };
    let mut connection = world.connection().await;
    for refusal in [None, Some(Refusal::EmptyFile), None, Some(Refusal::ContentMismatch)] {
        let new = new_upload(world.user, ImagePath::Post);
        assert_eq!(world.insert(&new, &both).await, Ok(()));
        let attempt = new.upload.unwrap().attempt;
        assert!(image_attempts::give_up(&mut connection, new.id, attempt, refusal, Left::Nothing).await.unwrap());
    }
    for _place in 0..3 {
        assert_eq!(world.create(Some(1), &both).await, Ok(()));
    }
    assert!(world.create(Some(1), &both).await.is_err());
}

#[tokio::test]
async fn of_many_creates_at_once_only_as_many_pass_as_there_are_places() {
    let world = World::new().await;
    for (quota, places) in [(THREE, 3), (Quota { unknown_bytes: 2 * MIB, ..TEN_MIB }, 5)] {
        for _round in 0..5 {
            let created = join_all((0..16).map(|_caller| world.create(None, &quota))).await;
            let passed = created.iter().filter(|created| created.is_ok()).count();
            assert_eq!(passed, places, "{created:?}");
            world.sql("DELETE FROM image").await;
        }
    }
}

#[tokio::test]
async fn a_users_images_are_read_by_the_index_alone() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    connection.batch_execute(FILL).await.unwrap();
    // Others have pending images, too.
    let others =
        "INSERT INTO image (id, user_id, path, format) SELECT gen_random_uuid(), id, 'post', 'image/png' FROM \"user\"";
    connection.batch_execute(others).await.unwrap();
    connection.batch_execute("ANALYZE image").await.unwrap();
    world.pending(world.user, ImagePath::Post).await;
    // EXPLAIN does not show the statements of a function, so this counts the scans that they make, and the rows that they read.
    let sql = format!(
        "SELECT pending_wait FROM image_quota_wait('{}', 1, 1, '1 h', 1000, 1000);
         SELECT pg_stat_get_xact_numscans('image'::regclass), pg_stat_get_xact_numscans('\"user\"'::regclass),
             pg_stat_get_xact_numscans('image_user_id_deleting_at_created_at'::regclass),
             pg_stat_get_xact_numscans('image_pending_user_id'::regclass), pg_stat_get_xact_numscans('user_pkey'::regclass)",
        world.user
    );
    let rows = world.stand.sql(&sql).await.unwrap();
    assert!(rows[0][0].is_some(), "it read the image");
    let scans: Vec<&str> = rows[1].iter().flatten().map(String::as_str).collect();
    assert_eq!(scans, ["0", "0", "1", "1", "1"], "scans of the tables and of their indexes");
}

#[tokio::test]
async fn a_count_reads_no_more_rows_than_the_quota_has_room_for() {
    let world = World::new().await;
    // A day of tiny images, most of which are linked, and many uploads that have failed.
    let many = format!(
        "INSERT INTO image (id, user_id, path, format, created_at, linked_at, byte_size, media_byte_size, media_key, width, height)
             SELECT gen_random_uuid(), '{0}', 'post', 'image/png', now() - age * interval '1 s', now(), 1, 1, 'media/x', 1, 1
             FROM generate_series(1, 5000) AS age;
         INSERT INTO image (id, user_id, path, format, created_at, deleting_at)
             SELECT gen_random_uuid(), '{0}', 'post', 'image/png', now() - age * interval '1 s', now()
             FROM generate_series(1, 5000) AS age;
         ANALYZE image",
        world.user
    );
    world.sql(&many).await;
    // 16 images of 64 KiB fill the quota.
    let sql = format!(
        "SELECT bytes_wait FROM image_quota_wait('{}', 1, 20, '1 h', 1048576, 1048576);
         SELECT pg_stat_get_xact_tuples_fetched('image_user_id_deleting_at_created_at'::regclass) + pg_stat_get_xact_tuples_fetched('image'::regclass)
             + pg_stat_get_xact_tuples_returned('image'::regclass)",
        world.user
    );
    let rows = world.stand.sql(&sql).await.unwrap();
    assert!(rows[0][0].is_some(), "the quota is used up");
    let read: u64 = rows[1][0].as_deref().unwrap().parse().unwrap();
    assert!(read <= 40, "{read} rows");
}
