//! The link protocol without HTTP, on a real Postgres and a real S3 store: each outcome, each lost answer, and what they leave behind.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod posts;
mod world;

use upload_domain::{ImageFormat, ImagePath, Refusal, incoming_key};
use upload_link::{Event, LinkError, Linked, Poster, Profile};
use upload_sandbox::{relay::Mode, samples};
use uuid::Uuid;

use crate::world::World;

const PROFILE: ImagePath = ImagePath::UserProfile;

#[tokio::test(flavor = "multi_thread")]
async fn a_link_moves_the_upload_to_a_media_key_and_happens_once() {
    let world = World::new().await;
    let image = world.uploaded(PROFILE).await;
    let Linked::Now(link) = world.links.link(world.user, image, Profile).await.unwrap() else {
        panic!("linked before")
    };
    assert_eq!(link.image_id, image);
    assert_eq!(world.links.link(world.user, image, Profile).await.unwrap(), Linked::Before(link));
    assert_eq!(world.events(), [Event::Linked]);
    let (state, key) = world.row(image).await;
    assert_eq!((state.as_str(), world.objects().await), ("linked", vec![key.unwrap()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_an_upload_is_given_back() {
    let world = World::new().await;
    let image = world.pending(PROFILE).await;
    let error = world.links.link(world.user, image, Profile).await.unwrap_err();
    assert!(matches!(error, LinkError::NotUploaded), "{error:?}");
    assert_eq!(world.row(image).await, ("pending".to_owned(), None));
    world.upload(image, samples::of_format(ImageFormat::Jpeg, 1)).await;
    assert!(matches!(world.links.link(world.user, image, Profile).await, Ok(Linked::Now(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_may_not_be_kept_is_refused_for_good_and_deleted() {
    let world = World::new().await;
    let image = world.pending(PROFILE).await;
    world.upload(image, b"<svg onload=\"alert(1)\"/>".to_vec()).await;
    for _again in 0..2 {
        let error = world.links.link(world.user, image, Profile).await.unwrap_err();
        assert!(matches!(error, LinkError::Refused(Refusal::ContentMismatch)), "{error:?}");
    }
    assert_eq!(world.events(), [Event::Refused(Refusal::ContentMismatch)]);
    assert_eq!(world.row(image).await, ("refused".to_owned(), None));
    assert_eq!(world.objects().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_not_link_changes_nothing() {
    let world = World::new().await;
    let image = world.uploaded(PROFILE).await;
    let stranger = Uuid::now_v7().into();
    let error = world.links.link(stranger, image, Profile).await.unwrap_err();
    assert!(matches!(error, LinkError::ImageNotFound), "{error:?}");
    let error = world.links.link(world.user, image, Poster(Uuid::now_v7().into())).await.unwrap_err();
    assert!(matches!(error, LinkError::CompetitionNotFound), "{error:?}");
    let for_a_post = world.uploaded(ImagePath::Post).await;
    let error = world.links.link(world.user, for_a_post, Profile).await.unwrap_err();
    assert!(matches!(error, LinkError::WrongPath), "{error:?}");
    for image in [image, for_a_post] {
        assert_eq!(world.row(image).await, ("pending".to_owned(), None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_answer_is_lost_is_found() {
    let (world, _relay) = World::losing_answers_of_the_store("x-amz-copy-source").await;
    let image = world.uploaded(PROFILE).await;
    assert!(matches!(world.links.link(world.user, image, Profile).await, Ok(Linked::Now(_))));
    let (_state, key) = world.row(image).await;
    assert_eq!(world.objects().await, [key.unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_never_reaches_the_store_gives_the_image_back() {
    let (world, relay) = World::losing_answers_of_the_store("").await;
    relay.set(Mode::BreakRequestsWith("x-amz-copy-source"));
    let image = world.uploaded(PROFILE).await;
    let error = world.links.link(world.user, image, Profile).await.unwrap_err();
    assert!(matches!(error, LinkError::Storage(_)), "{error:?}");
    assert_eq!(world.row(image).await, ("pending".to_owned(), None));
    assert_eq!(world.objects().await, [incoming_key(image)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_found() {
    // Of all statements of a link, only the commit contains the path.
    let (world, _relay) = World::losing_answers_of_the_database("user-profile").await;
    let image = world.uploaded(PROFILE).await;
    assert!(matches!(world.links.link(world.user, image, Profile).await, Ok(Linked::Now(_))));
    let (state, key) = world.row(image).await;
    assert_eq!((state.as_str(), world.objects().await), ("linked", vec![key.unwrap()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_never_reaches_the_database_leaves_no_copy() {
    let (world, relay) = World::losing_answers_of_the_database("").await;
    relay.set(Mode::BreakRequestsWith("user-profile"));
    let image = world.uploaded(PROFILE).await;
    let error = world.links.link(world.user, image, Profile).await.unwrap_err();
    assert!(matches!(error, LinkError::Database(_)), "{error:?}");
    assert_eq!(world.row(image).await, ("pending".to_owned(), None));
    assert_eq!(world.objects().await, [incoming_key(image)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_while_nobody_can_tell_whether_it_was_committed() {
    // Both answers are lost: that of the commit, and that of the query whether it succeeded.
    let (world, _relay) = World::losing_answers_of_the_database("attempt = NULL").await;
    let image = world.uploaded(PROFILE).await;
    let error = world.links.link(world.user, image, Profile).await.unwrap_err();
    assert!(matches!(error, LinkError::Database(_)), "{error:?}");
    let objects = world.objects().await;
    let copies: Vec<_> = objects.iter().filter(|key| key.starts_with("media/")).collect();
    assert_eq!(copies.len(), 1, "{objects:?}");
    let named = format!("image_attempt WHERE key = '{}'", copies[0]);
    assert_eq!(world.stand.count(&named).await.unwrap(), 1, "a sweep knows of it");
}
