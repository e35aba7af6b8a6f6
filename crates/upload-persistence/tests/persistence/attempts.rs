//! The life of a pending image: created, claimed, uploaded to, refused, released.

use std::time::Duration;

use upload_domain::{ImageId, ImagePath, Refusal, Role, Sha256Checksum, UserStatus, media_key};
use upload_persistence::{
    image_attempts::{self, Left},
    images::{self, NewImage, Served},
    posts::{self, NewPost},
    profile_images,
    quotas::{NotCreated, Quota},
};
use uuid::Uuid;

use crate::world::{CUTOFF, DIMENSIONS, Held, World, finished, new_attempt, new_image, new_post, new_upload};

#[tokio::test]
async fn a_new_image_is_read_back_as_it_was_declared() {
    let world = World::new().await;
    let checksum = Sha256Checksum::from([7; 32]);
    let new = NewImage {
        byte_size: Some(5_000_000),
        checksum_sha256: Some(checksum),
        ..new_image(world.user, ImagePath::UserProfile)
    };
    let mut connection = world.connection().await;
    let created = images::insert_pending(&mut connection, &new, &Quota::UNLIMITED).await.unwrap().unwrap();
    assert_eq!(created.id, new.id);
    assert_eq!(created.user_id, world.user);
    assert_eq!((created.path, created.format), (new.path, new.format));
    assert_eq!((created.byte_size, created.checksum_sha256), (Some(5_000_000), Some(checksum)));
    assert_eq!((created.linked_at, created.media_key.as_ref(), created.attempt), (None, None, None));
    assert_eq!(created.verified(), None);
    let (found, now) =
        images::find_pending(&mut connection, new.id, world.user, CUTOFF).await.unwrap().expect("it is pending");
    assert!(now > created.created_at, "the database's time goes on: {now}");
    assert_eq!(found, created);
}

#[tokio::test]
async fn only_active_users_with_the_path_s_role_create_images() {
    let world = World::new().await;
    for (role, status, path, may) in [
        (Role::User, UserStatus::Active, ImagePath::UserProfile, true),
        (Role::User, UserStatus::Active, ImagePath::Post, true),
        (Role::User, UserStatus::Active, ImagePath::Competition, false),
        (Role::Host, UserStatus::Active, ImagePath::Competition, true),
        (Role::Admin, UserStatus::Active, ImagePath::Competition, true),
        (Role::TemporaryUser, UserStatus::Active, ImagePath::UserProfile, false),
        (Role::User, UserStatus::Inactive, ImagePath::Post, false),
        (Role::Admin, UserStatus::Inactive, ImagePath::Competition, false),
    ] {
        let user = world.stand.add_user(role, status).await.unwrap();
        let mut connection = world.connection().await;
        for new in [new_image(user, path), new_upload(user, path)] {
            let created = images::insert_pending(&mut connection, &new, &Quota::UNLIMITED).await.unwrap();
            assert_eq!(created.is_ok(), may, "{role} {status} {path}");
        }
    }
    let nobody = Uuid::now_v7().into();
    let mut connection = world.connection().await;
    let created =
        images::insert_pending(&mut connection, &new_image(nobody, ImagePath::Post), &Quota::UNLIMITED).await.unwrap();
    assert_eq!(created, Err(NotCreated::Forbidden));
}

#[tokio::test]
async fn a_claim_holds_until_it_is_released_or_runs_out() {
    let world = World::new().await;
    let image = world.pending(world.user, ImagePath::Post).await;
    let first = world.claim(image, world.user).await.unwrap().attempt.unwrap();
    assert_eq!(world.claim(image, world.user).await, None, "it is held");

    let mut connection = world.connection().await;
    assert!(
        !image_attempts::release(&mut connection, image, new_attempt(), Left::Nothing).await.unwrap(),
        "another attempt's"
    );
    assert!(image_attempts::release(&mut connection, image, first, Left::Nothing).await.unwrap());
    assert!(!image_attempts::release(&mut connection, image, first, Left::Nothing).await.unwrap());

    let second = world.claim(image, world.user).await.unwrap().attempt.unwrap();
    world.run_out(image).await;
    let third = world.claim(image, world.user).await.unwrap().attempt.unwrap();
    assert_ne!(second, third);
    assert!(
        !image_attempts::release(&mut connection, image, second, Left::Nothing).await.unwrap(),
        "the first holder lost it"
    );
}

#[tokio::test]
async fn links_and_uploads_exclude_each_other() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    let image = world.pending(world.user, ImagePath::Post).await;
    let attempt = new_attempt();
    let lasts = Duration::from_secs(180);
    let claimed = image_attempts::claim_upload(&mut connection, image, attempt, lasts, CUTOFF).await.unwrap();
    assert_eq!(claimed.unwrap().attempt, Some(attempt));
    assert_eq!(world.claim(image, world.user).await, None);
    assert!(image_attempts::release(&mut connection, image, attempt, Left::Nothing).await.unwrap());
    assert!(world.claim(image, world.user).await.is_some());
    assert_eq!(image_attempts::claim_upload(&mut connection, image, attempt, lasts, CUTOFF).await.unwrap(), None);
}

#[tokio::test]
async fn nobody_gets_an_image_that_is_not_theirs_or_past_its_time() {
    let world = World::new().await;
    let other = world.add_user(Role::Admin).await;
    let image = world.pending(world.user, ImagePath::Post).await;
    let mut connection = world.connection().await;
    macro_rules! nobody_gets_it {
        ($user:expr) => {
            assert_eq!(images::find_pending(&mut connection, image, $user, CUTOFF).await.unwrap(), None);
            assert_eq!(world.claim(image, $user).await, None);
        };
    }
    nobody_gets_it!(other);

    world.age(image, 3511).await;
    nobody_gets_it!(world.user);
    let lasts = Duration::from_secs(180);
    assert_eq!(image_attempts::claim_upload(&mut connection, image, new_attempt(), lasts, CUTOFF).await.unwrap(), None);
    world.age(image, 3500).await;
    world.sql(&format!("UPDATE image SET deleting_at = now() WHERE id = '{image}'")).await;
    nobody_gets_it!(world.user);
    assert_eq!(image_attempts::claim_upload(&mut connection, image, new_attempt(), lasts, CUTOFF).await.unwrap(), None);
    world.sql(&format!("UPDATE image SET deleting_at = NULL WHERE id = '{image}'")).await;
    world.deactivate(world.user).await;
    nobody_gets_it!(world.user);
    assert_eq!(image_attempts::claim_upload(&mut connection, image, new_attempt(), lasts, CUTOFF).await.unwrap(), None);
    let missing = ImageId::from(Uuid::now_v7());
    assert_eq!(images::find_pending(&mut connection, missing, other, CUTOFF).await.unwrap(), None);
    assert_eq!(images::find_for_update(&mut connection, missing).await.unwrap(), None);
}

#[tokio::test]
async fn an_upload_leaves_verified_bytes_that_a_link_then_only_commits() {
    let world = World::new().await;
    let new = new_upload(world.user, ImagePath::UserProfile);
    let attempt = new.upload.unwrap().attempt;
    let mut connection = world.connection().await;
    let created = images::insert_pending(&mut connection, &new, &Quota::UNLIMITED).await.unwrap().unwrap();
    assert_eq!(created.attempt, Some(attempt));
    assert_eq!(world.claim(new.id, world.user).await, None, "an upload is under way");

    let wrong = finished(new.id, new_attempt(), "media/wrong");
    assert_eq!(image_attempts::finish_upload(&mut connection, &wrong).await.unwrap(), None);
    let done =
        image_attempts::finish_upload(&mut connection, &finished(new.id, attempt, "media/x/1")).await.unwrap().unwrap();
    assert_eq!((done.media_key.as_deref(), done.media_byte_size), (Some("media/x/1"), Some(1234)));
    assert_eq!((done.width, done.height, done.attempt), (Some(640), Some(480), None));
    assert_eq!(done.byte_size, None, "nothing was declared, so another upload may be of another length");
    let again = image_attempts::finish_upload(&mut connection, &finished(new.id, attempt, "media/x/2")).await.unwrap();
    assert_eq!(again, None, "its attempt has ended");

    let claimed = world.claim(new.id, world.user).await.unwrap();
    let verified = claimed.verified().unwrap();
    assert_eq!((verified.media_key, verified.byte_size, verified.dimensions), ("media/x/1", 1234, DIMENSIONS));
    assert!(profile_images::link(&mut connection, &verified).await.unwrap().is_some());
    let linked = images::find_for_update(&mut connection, new.id).await.unwrap().unwrap();
    assert!(linked.linked_at.is_some());
    assert_eq!(linked.byte_size, Some(1234));
    assert_eq!(linked.attempt, None);
}

#[tokio::test]
async fn a_later_upload_replaces_the_key_and_learns_the_old_one() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    let image = world.pending(world.user, ImagePath::Post).await;
    let lasts = Duration::from_secs(180);
    let (first, second) = (new_attempt(), new_attempt());
    image_attempts::claim_upload(&mut connection, image, first, lasts, CUTOFF).await.unwrap().unwrap();
    image_attempts::finish_upload(&mut connection, &finished(image, first, "media/x/1")).await.unwrap().unwrap();
    let claimed = image_attempts::claim_upload(&mut connection, image, second, lasts, CUTOFF).await.unwrap().unwrap();
    assert_eq!(claimed.media_key.as_deref(), Some("media/x/1"));
    let done =
        image_attempts::finish_upload(&mut connection, &finished(image, second, "media/x/2")).await.unwrap().unwrap();
    assert_eq!(done.media_key.as_deref(), Some("media/x/2"));
}

/// No object is left behind for ever: at each step, each key is in the trail or in its image's row.
#[tokio::test]
async fn a_key_is_named_until_it_is_committed_or_swept() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    let nobody: [String; 0] = [];

    // A claim puts its key into the trail. The key stays there after another claim has replaced this one.
    let died = world.held(world.user, ImagePath::UserProfile).await;
    assert_eq!(world.trail().await, std::slice::from_ref(&died.media_key));
    world.run_out(died.image).await;
    let next = world.claim(died.image, world.user).await.unwrap().attempt.unwrap();
    let next_key = media_key(died.image, next);
    assert_eq!(world.trail().await, [died.media_key.clone(), next_key.clone()]);
    let held = Held { attempt: next, media_key: next_key, ..died };
    // The link's commit moves only its own key to the image.
    assert!(profile_images::link(&mut connection, &held.verified()).await.unwrap().is_some());
    assert_eq!(world.trail().await, [media_key(held.image, died.attempt)]);
    world.sql("DELETE FROM image_attempt").await;

    // So does an upload's commit, which also puts the replaced key into the trail.
    let new = new_upload(world.user, ImagePath::Post);
    let first = new.upload.unwrap().attempt;
    images::insert_pending(&mut connection, &new, &Quota::UNLIMITED).await.unwrap().unwrap();
    let first_key = media_key(new.id, first);
    assert_eq!(world.trail().await, std::slice::from_ref(&first_key));
    image_attempts::finish_upload(&mut connection, &finished(new.id, first, &first_key)).await.unwrap().unwrap();
    assert_eq!(world.trail().await, nobody);
    let (second, lasts) = (new_attempt(), Duration::from_secs(180));
    image_attempts::claim_upload(&mut connection, new.id, second, lasts, CUTOFF).await.unwrap().unwrap();
    let second_key = media_key(new.id, second);
    image_attempts::finish_upload(&mut connection, &finished(new.id, second, &second_key)).await.unwrap().unwrap();
    assert_eq!(world.trail().await, std::slice::from_ref(&first_key));

    // A post takes one image that an upload has verified, whose attempt here has copied nothing, and one that was copied.
    let claimed = world.claim(new.id, world.user).await.unwrap();
    let copied = world.held(world.user, ImagePath::Post).await;
    assert_eq!(world.trail().await.len(), 3);
    let post = NewPost { id: new_post(), user_id: world.user, title: "", content: "" };
    posts::create(&mut connection, &post, &[claimed.verified().unwrap(), copied.verified()]).await.unwrap();
    assert_eq!(world.trail().await, [first_key]);
}

#[tokio::test]
async fn an_attempt_that_wrote_nothing_is_forgotten_and_any_other_is_not() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    for (left, named) in [(Left::Nothing, 0), (Left::PerhapsAnObject, 1)] {
        let held = world.held(world.user, ImagePath::Post).await;
        assert!(image_attempts::release(&mut connection, held.image, held.attempt, left).await.unwrap());
        assert_eq!(world.trail().await.len(), named, "released: {left:?}");
        world.sql("DELETE FROM image_attempt").await;
        let held = world.held(world.user, ImagePath::Post).await;
        let refusal = Refusal::ChecksumMismatch;
        assert!(image_attempts::refuse(&mut connection, held.image, held.attempt, refusal, left).await.unwrap());
        assert_eq!(world.trail().await.len(), named, "refused: {left:?}");
        world.sql("DELETE FROM image_attempt").await;
    }
}

#[tokio::test]
async fn an_upload_whose_time_is_over_does_not_finish() {
    let world = World::new().await;
    let new = new_upload(world.user, ImagePath::Post);
    let attempt = new.upload.unwrap().attempt;
    let mut connection = world.connection().await;
    images::insert_pending(&mut connection, &new, &Quota::UNLIMITED).await.unwrap().unwrap();
    world.run_out(new.id).await;
    // A sweep may already be deleting its object.
    let done = image_attempts::finish_upload(&mut connection, &finished(new.id, attempt, "media/x")).await.unwrap();
    assert_eq!(done, None);
}

#[tokio::test]
async fn an_upload_does_not_finish_on_a_row_that_is_being_removed() {
    let world = World::new().await;
    let new = new_upload(world.user, ImagePath::Post);
    let mut connection = world.connection().await;
    images::insert_pending(&mut connection, &new, &Quota::UNLIMITED).await.unwrap().unwrap();
    world.sql(&format!("UPDATE image SET deleting_at = now() WHERE id = '{}'", new.id)).await;
    let attempt = new.upload.unwrap().attempt;
    assert_eq!(
        image_attempts::finish_upload(&mut connection, &finished(new.id, attempt, "media/x")).await.unwrap(),
        None
    );
    assert!(
        !image_attempts::refuse(&mut connection, new.id, attempt, Refusal::EmptyFile, Left::Nothing).await.unwrap()
    );
}

#[tokio::test]
async fn a_refusal_is_kept_and_only_its_own_attempt_may_give_it() {
    let world = World::new().await;
    for refusal in Refusal::ALL.iter().copied() {
        let held = world.held(world.user, ImagePath::Post).await;
        let mut connection = world.connection().await;
        assert!(
            !image_attempts::refuse(&mut connection, held.image, new_attempt(), refusal, Left::Nothing).await.unwrap()
        );
        assert!(
            image_attempts::refuse(&mut connection, held.image, held.attempt, refusal, Left::Nothing).await.unwrap()
        );
        let row = images::find_for_update(&mut connection, held.image).await.unwrap().unwrap();
        assert_eq!((row.refused_code, row.attempt), (Some(refusal), None));
        assert_eq!(world.claim(held.image, world.user).await, None);
        assert_eq!(images::find_pending(&mut connection, held.image, world.user, CUTOFF).await.unwrap(), None);
    }
}

#[tokio::test]
async fn an_image_is_served_only_while_a_live_link_exists() {
    let world = World::new().await;
    let held = world.held(world.user, ImagePath::UserProfile).await;
    let mut connection = world.connection().await;
    assert_eq!(images::find_served(&mut connection, held.image).await.unwrap(), None);
    profile_images::link(&mut connection, &held.verified()).await.unwrap().unwrap();
    let served = images::find_served(&mut connection, held.image).await.unwrap();
    assert_eq!(served, Some(Served { media_key: held.media_key.clone(), media_version: None }));
    assert!(profile_images::delete_live(&mut connection, world.user).await.unwrap());
    assert_eq!(images::find_served(&mut connection, held.image).await.unwrap(), None);
}

#[tokio::test]
async fn a_read_for_update_waits_for_the_commit_that_is_under_way() {
    let world = World::new().await;
    let held = world.held(world.user, ImagePath::Post).await;
    let (started, committing) = tokio::sync::oneshot::channel();
    let database = world.stand.database.clone();
    let image = held.image;
    let committer = world.stand.runtime().spawn(async move {
        use diesel_async::{AsyncConnection, SimpleAsyncConnection};
        let mut connection = database.connection().await.unwrap();
        let lines =
            "UPDATE image SET attempt_until = now() + interval '1 h' WHERE attempt IS NOT NULL; SELECT pg_sleep(0.05)";
        connection
            .transaction(async |connection| {
                connection.batch_execute("UPDATE image SET byte_size = 77").await?;
                started.send(()).unwrap();
                connection.batch_execute(lines).await
            })
            .await
    });
    committing.await.unwrap();
    let mut connection = world.connection().await;
    let row = images::find_for_update(&mut connection, image).await.unwrap().unwrap();
    assert_eq!(row.byte_size, Some(77), "a plain read would not have seen it");
    committer.await.unwrap().unwrap();
}
