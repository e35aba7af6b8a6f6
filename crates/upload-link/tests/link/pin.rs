//! Verify and pin: what the link does if the upload is missing, bad, or changes, and if the store is slow or loses an answer.

use std::time::Duration;

use futures::future::join_all;
use upload_domain::{ImageFormat, Refusal, incoming_key};
use upload_link::{Event, LinkError, Linked, Links, Profile};
use upload_sandbox::{relay::Mode, samples};

use crate::{PROFILE, world::World};

/// Of the requests to the store, the copy alone has this header.
const COPY: &str = "x-amz-copy-source";

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_an_upload_is_released() {
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
async fn a_copy_whose_answer_is_lost_is_found() {
    let (world, _relay) = World::behind_the_store(Mode::BreakAnswersTo(COPY)).await;
    let image = world.uploaded(PROFILE).await;
    assert!(matches!(world.links.link(world.user, image, Profile).await, Ok(Linked::Now(_))));
    let (_state, key) = world.row(image).await;
    assert_eq!(world.objects().await, [key.unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_never_reaches_the_store_releases_the_image() {
    let (world, _relay) = World::behind_the_store(Mode::BreakRequestsWith(COPY)).await;
    let image = world.uploaded(PROFILE).await;
    let error = world.links.link(world.user, image, Profile).await.unwrap_err();
    assert!(matches!(error, LinkError::Storage(_)), "{error:?}");
    assert_eq!(world.row(image).await, ("pending".to_owned(), None));
    assert_eq!(world.objects().await, [incoming_key(image)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_with_another_checksum_than_declared_is_refused_for_good_and_deleted() {
    let world = World::new().await;
    let image = world.pending_with_checksum(PROFILE, [7; 32]).await;
    world.upload(image, samples::of_format(ImageFormat::Jpeg, 1)).await;
    for _again in 0..2 {
        let error = world.links.link(world.user, image, Profile).await.unwrap_err();
        assert!(matches!(error, LinkError::Refused(Refusal::ChecksumMismatch)), "{error:?}");
    }
    assert_eq!(world.events(), [Event::Refused(Refusal::ChecksumMismatch)]);
    assert_eq!(world.row(image).await, ("refused".to_owned(), None));
    assert_eq!(world.objects().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_changes_after_it_was_verified_is_not_copied() {
    for (replacement, expected) in
        [(Some(samples::of_format(ImageFormat::Jpeg, 2)), "UploadChanged(None)"), (None, "NotUploaded")]
    {
        let (world, relay) = World::behind_the_store(Mode::HoldRequestsWith(COPY)).await;
        let image = world.uploaded(PROFILE).await;
        let link = world.begin(image, Profile);
        relay.holds(1).await;
        let left = match replacement {
            Some(file) => {
                world.upload(image, file).await;
                vec![incoming_key(image)]
            }
            None => {
                world.stand.storage.delete(&incoming_key(image)).await.unwrap();
                Vec::new()
            }
        };
        relay.set(Mode::Pass);
        let error = link.await.unwrap().unwrap_err();
        assert_eq!(format!("{error:?}"), expected);
        assert_eq!(world.row(image).await, ("pending".to_owned(), None), "{expected}");
        assert_eq!(world.objects().await, left, "{expected}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_waits_for_its_turn_does_not_hold_the_image() {
    let world = World::new().await;
    let Links { database, storage, limits, mut timing, background, .. } = world.links.clone();
    // The wait ends when nobody has made progress for a lease.
    timing.link_lease = Duration::from_millis(200);
    let links = Links::new(database, storage, limits, timing, background, 0, |_event| {});
    let image = world.uploaded(PROFILE).await;
    let (waiting, other) =
        tokio::join!(links.link(world.user, image, Profile), world.links.link(world.user, image, Profile));
    assert!(matches!(waiting, Err(LinkError::Overloaded)), "{waiting:?}");
    assert!(matches!(other, Ok(Linked::Now(_))), "{other:?}");
    assert_eq!(world.stand.count("image_attempt").await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_wait_for_their_turn_as_long_as_others_get_on() {
    const LINKS: usize = 200;
    let world = World::new().await;
    let Links { database, storage, limits, mut timing, background, .. } = world.links.clone();
    timing.link_lease = Duration::from_secs(4);
    let links = Links::new(database, storage, limits, timing, background, 1, |_event| {});
    let mut images = Vec::new();
    for _ in 0..LINKS {
        images.push(world.uploaded(PROFILE).await);
    }
    let all = images.into_iter().map(|image| links.link(world.user, image, Profile));
    for linked in join_all(all).await {
        assert!(matches!(linked, Ok(Linked::Now(_))), "{linked:?}");
    }
    assert_eq!(world.stand.count("image WHERE linked_at IS NOT NULL").await.unwrap(), LINKS as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_whose_time_is_over_releases_the_image() {
    // Before the copy, and during it: the copy never goes on to the store.
    for lease in [Duration::ZERO, Duration::from_secs(2)] {
        let (mut world, _relay) = World::behind_the_store(Mode::HoldRequestsWith(COPY)).await;
        world.links.timing.link_lease = lease;
        let image = world.uploaded(PROFILE).await;
        let error = world.links.link(world.user, image, Profile).await.unwrap_err();
        assert!(matches!(error, LinkError::TooSlow), "{lease:?}: {error:?}");
        assert_eq!(world.row(image).await, ("pending".to_owned(), None), "{lease:?}");
        assert_eq!(world.objects().await, [incoming_key(image)], "{lease:?}");
    }
}
