//! What a user may create: the reasons, the waits, many creates at once, and by which index the rows are read.

use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use futures::future::join_all;
use upload_domain::{ImagePath, UserId};
use upload_persistence::{
    image_attempts, images,
    images::NewImage,
    profile_images,
    quotas::{self, NotCreated, Quota},
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
        match images::insert_pending(&mut connection, new, quota).await.unwrap() {
            Some(_image) => Ok(()),
            None => Err(quotas::why_not_created(&mut connection, new, quota).await.unwrap()),
        }
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
    // A place that became free between the two statements.
    let mut connection = world.connection().await;
    let other = new_image(world.add_user(upload_domain::Role::User).await, ImagePath::Post);
    let reason = quotas::why_not_created(&mut connection, &other, &both).await.unwrap();
    assert_eq!(reason, NotCreated::TooManyPending(Duration::from_secs(1)));
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
    // EXPLAIN does not show the statements of a function, so this counts the scans that they make.
    let sql = format!(
        "SELECT pending_wait FROM image_quota_wait('{}', 1, 1, '1 h', 1000, 1000);
         SELECT pg_stat_get_xact_numscans('image'::regclass), pg_stat_get_xact_numscans('\"user\"'::regclass),
             pg_stat_get_xact_numscans('image_user_id_deleting_at_created_at'::regclass), pg_stat_get_xact_numscans('user_pkey'::regclass)",
        world.user
    );
    let rows = world.stand.sql(&sql).await.unwrap();
    assert!(rows[0][0].is_some(), "it read the image");
    let scans: Vec<&str> = rows[1].iter().flatten().map(String::as_str).collect();
    assert_eq!(scans, ["0", "0", "2", "1"], "scans of the tables and of their indexes");
}
