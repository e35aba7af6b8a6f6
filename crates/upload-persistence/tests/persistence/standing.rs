//! The state of an image: one test for every answer.

use std::time::Duration;

use upload_domain::{ImageId, ImagePath, LinkTarget, Refusal, Role};
use upload_persistence::{
    Connection,
    image_attempts::{self, Left},
    images::{self, Standing},
    poster_images,
    posts::{self, NewPost},
    profile_images,
    quotas::Quota,
};
use uuid::Uuid;

use crate::world::{CUTOFF, PENDING_TTL, World, new_attempt, new_post, new_upload};

async fn standing(world: &World, image: ImageId) -> Standing {
    let mut connection = world.connection().await;
    let to_all = images::standing(&mut connection, image, None, CUTOFF).await.unwrap();
    let owner = images::find_for_update(&mut connection, image).await.unwrap().map(|image| image.user_id);
    let to_owner = images::standing(&mut connection, image, owner.or(Some(world.user)), CUTOFF).await.unwrap();
    assert_eq!(to_all, to_owner);
    to_owner
}

#[tokio::test]
async fn an_image_that_is_not_there_or_another_s_is_missing() {
    let world = World::new().await;
    assert_eq!(standing(&world, ImageId::from(Uuid::now_v7())).await, Standing::Missing);
    let image = world.pending(world.user, ImagePath::Post).await;
    let other = world.add_user(Role::Admin).await;
    let mut connection = world.connection().await;
    let to_other = images::standing(&mut connection, image, Some(other), CUTOFF).await.unwrap();
    assert_eq!(to_other, Standing::Missing);
}

#[tokio::test]
async fn a_free_image_is_pending_and_an_inactive_owner_is_forbidden() {
    let world = World::new().await;
    let image = world.pending(world.user, ImagePath::Post).await;
    assert_eq!(standing(&world, image).await, Standing::Pending);
    world.sql(&format!("UPDATE \"user\" SET role = 'TEMPORARY_USER' WHERE id = '{}'", world.user)).await;
    assert_eq!(standing(&world, image).await, Standing::Forbidden);
    world.sql(&format!("UPDATE \"user\" SET role = 'USER' WHERE id = '{}'", world.user)).await;
    world.deactivate(world.user).await;
    assert_eq!(standing(&world, image).await, Standing::Forbidden);
}

#[tokio::test]
async fn a_running_attempt_shows_of_which_kind_it_is() {
    let world = World::new().await;
    let held = world.held(world.user, ImagePath::Post).await;
    assert_eq!(standing(&world, held.image).await, Standing::LinkInProgress);
    world.run_out(held.image).await;
    assert_eq!(standing(&world, held.image).await, Standing::Pending);
    let mut connection = world.connection().await;
    let lasts = Duration::from_secs(180);
    image_attempts::claim_upload(&mut connection, held.image, new_attempt(), lasts, CUTOFF).await.unwrap().unwrap();
    assert_eq!(standing(&world, held.image).await, Standing::UploadInProgress);
}

#[tokio::test]
async fn an_old_image_and_one_being_removed_have_expired() {
    let world = World::new().await;
    let image = world.pending(world.user, ImagePath::Post).await;
    world.age(image, 3509).await;
    assert_eq!(standing(&world, image).await, Standing::Pending);
    world.age(image, 3511).await;
    assert_eq!(standing(&world, image).await, Standing::Expired);
    let image = world.pending(world.user, ImagePath::Post).await;
    world.sql(&format!("UPDATE image SET deleting_at = now() WHERE id = '{image}'")).await;
    assert_eq!(standing(&world, image).await, Standing::Expired);
}

#[tokio::test]
async fn a_refused_image_says_why() {
    let world = World::new().await;
    let held = world.held(world.user, ImagePath::Post).await;
    let mut connection = world.connection().await;
    image_attempts::refuse(&mut connection, held.image, held.attempt, Refusal::ImageTooLarge, Left::Nothing)
        .await
        .unwrap();
    assert_eq!(standing(&world, held.image).await, Standing::Refused(Refusal::ImageTooLarge));
}

#[tokio::test]
async fn an_image_that_ends_with_its_own_upload_has_expired_or_says_why() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    let cases = [(None, Standing::Expired), (Some(Refusal::EmptyFile), Standing::Refused(Refusal::EmptyFile))];
    for (refusal, expected) in cases {
        let new = new_upload(world.user, ImagePath::Post);
        let attempt = new.upload.unwrap().attempt;
        images::insert_pending(&mut connection, &new, &Quota::UNLIMITED).await.unwrap().unwrap();
        let give_up = async |connection: &mut Connection, attempt| {
            image_attempts::give_up(connection, new.id, attempt, refusal, Left::Nothing).await.unwrap()
        };
        assert!(!give_up(&mut connection, new_attempt()).await, "another attempt's");
        assert!(give_up(&mut connection, attempt).await);
        assert!(!give_up(&mut connection, attempt).await, "it has ended");
        assert_eq!(standing(&world, new.id).await, expected);
        assert_eq!(images::find_pending(&mut connection, new.id, world.user, CUTOFF).await.unwrap(), None);
        assert_eq!(world.claim(new.id, world.user).await, None);
        assert_eq!(world.trail().await, [""; 0]);
    }
    // The sweep takes both when their time is over, and no sooner.
    assert_eq!(images::mark_expired(&mut connection, PENDING_TTL, 500).await.unwrap(), []);
    world
        .sql("UPDATE image SET created_at = created_at - interval '2 h', deleting_at = deleting_at - interval '2 h'")
        .await;
    assert_eq!(images::mark_expired(&mut connection, PENDING_TTL, 500).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_linked_image_says_to_what_and_whether_still() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    let profile = world.held(world.user, ImagePath::UserProfile).await;
    profile_images::link(&mut connection, &profile.verified()).await.unwrap().unwrap();
    assert_eq!(standing(&world, profile.image).await, Standing::Linked(LinkTarget::Profile, true));
    // A linked image does not expire.
    world.age(profile.image, 1_000_000).await;
    profile_images::delete_live(&mut connection, world.user).await.unwrap();
    assert_eq!(standing(&world, profile.image).await, Standing::Linked(LinkTarget::Profile, false));

    let host = world.add_user(Role::Host).await;
    let competition = world.competition(host).await;
    let (first, second) =
        (world.held(host, ImagePath::Competition).await, world.held(host, ImagePath::Competition).await);
    for poster in [&first, &second] {
        poster_images::link(&mut connection, competition, host, &poster.verified()).await.unwrap().unwrap();
        assert_eq!(standing(&world, poster.image).await, Standing::Linked(LinkTarget::Poster(competition), true));
    }
    assert_eq!(standing(&world, first.image).await, Standing::Linked(LinkTarget::Poster(competition), false));

    let held = world.held(world.user, ImagePath::Post).await;
    let post = NewPost { id: new_post(), user_id: world.user, title: "", content: "" };
    posts::create(&mut connection, &post, &[held.verified()]).await.unwrap();
    assert_eq!(standing(&world, held.image).await, Standing::Linked(LinkTarget::Post(post.id), true));
    posts::delete(&mut connection, post.id, world.user).await.unwrap();
    assert_eq!(standing(&world, held.image).await, Standing::Linked(LinkTarget::Post(post.id), false));
}
