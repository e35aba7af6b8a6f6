//! `S3_PIN=version`: the link pins the version that it verified, writes nothing to the store, and deletes nothing but what it refuses. Only
//! what has no version is copied.

use sha2::{Digest as _, Sha256};
use upload_domain::{HEAD_BYTES, ImageFormat, ImageId, ImagePath, Refusal, incoming_key};
use upload_link::{Event, LinkError, Linked, PostText, Profile};
use upload_sandbox::{relay::Mode, samples};

use crate::{PROFILE, world::World};

/// Of what a link says to the database, the path is in the commit alone.
const COMMIT: &str = "user-profile";

fn file(seed: u64) -> Vec<u8> {
    samples::of_format(ImageFormat::Jpeg, seed)
}

/// The versions under the image's incoming key, the newest first.
async fn versions(world: &World, image: ImageId) -> Vec<String> {
    let found = world.stand.storage.list_versions(&incoming_key(image)).await.unwrap();
    found.into_iter().map(|(_key, version)| version).collect()
}

async fn pinned(world: &World, image: ImageId) -> Option<String> {
    let rows = world.stand.sql(&format!("SELECT media_version FROM image WHERE id = '{image}'")).await.unwrap();
    rows[0][0].clone()
}

async fn assert_linked_by_version(world: &World, image: ImageId, version: &str) {
    assert_eq!(world.row(image).await, ("linked".to_owned(), Some(incoming_key(image))));
    assert_eq!(pinned(world, image).await.as_deref(), Some(version));
    assert_eq!(world.stand.count("image_attempt").await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_pins_the_newest_version_and_leaves_the_store_as_it_is() {
    let world = World::by_version().await;
    let image = world.uploaded(PROFILE).await;
    world.upload(image, file(2)).await;
    let all = versions(&world, image).await;
    let linked = world.links.link(world.user, image, Profile).await.unwrap();
    assert!(matches!(linked, Linked::Now(_)));
    assert_linked_by_version(&world, image, &all[0]).await;
    assert_eq!(world.objects().await, [incoming_key(image)]);
    assert_eq!(versions(&world, image).await, all);
    let user = world.stand.sql("SELECT profile_image_url_key FROM \"user\"").await.unwrap();
    assert_eq!(user[0][0], Some(format!("{}?versionId={}", incoming_key(image), all[0])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_pins_the_version_of_each_image() {
    let world = World::by_version().await;
    let mut images = Vec::new();
    for _ in 0..3 {
        images.push(world.uploaded(ImagePath::Post).await);
    }
    let (stored, key) = world.stored(ImagePath::Post).await;
    images.push(stored);
    let text = PostText { title: "Title".to_owned(), content: String::new() };
    let (_post, linked) = world.links.create_post(world.user, text, images.clone()).await.unwrap();
    for (image, linked) in images[..3].iter().zip(&linked) {
        let all = versions(&world, *image).await;
        assert_eq!(
            (linked.id, &linked.media_key, &linked.media_version),
            (*image, &Some(incoming_key(*image)), &all.first().cloned())
        );
        assert_linked_by_version(&world, *image, &all[0]).await;
    }
    // V1 has verified this one already.
    assert_eq!((&linked[3].media_key, &linked[3].media_version), (&Some(key), &None));
    assert_eq!(pinned(&world, stored).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_may_be_longer_than_the_first_read_but_not_longer_than_a_head() {
    let world = World::by_version().await;
    for (bytes, refused) in [(0, false), (70_000, false), (HEAD_BYTES, true)] {
        let image = world.pending(PROFILE).await;
        world.upload(image, samples::jpeg_with_long_header(bytes)).await;
        match world.links.link(world.user, image, Profile).await {
            Ok(Linked::Now(_)) if !refused => {}
            Err(LinkError::Refused(Refusal::HeaderTooLong)) if refused => {}
            other => panic!("{bytes}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_checksum_is_compared_with_the_whole_version() {
    let world = World::by_version().await;
    let right = world.pending_with_checksum(PROFILE, Sha256::digest(file(1)).into()).await;
    world.upload(right, file(1)).await;
    assert!(matches!(world.links.link(world.user, right, Profile).await, Ok(Linked::Now(_))));
    let wrong = world.pending_with_checksum(PROFILE, [7; 32]).await;
    world.upload(wrong, file(1)).await;
    let error = world.links.link(world.user, wrong, Profile).await.unwrap_err();
    assert!(matches!(error, LinkError::Refused(Refusal::ChecksumMismatch)), "{error:?}");
    assert_eq!(world.row(wrong).await, ("refused".to_owned(), None));
    assert_eq!(versions(&world, wrong).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_deleted_in_every_version() {
    let world = World::by_version().await;
    let image = world.uploaded(PROFILE).await;
    world.upload(image, b"<svg onload=\"alert(1)\"/>".to_vec()).await;
    let error = world.links.link(world.user, image, Profile).await.unwrap_err();
    assert!(matches!(error, LinkError::Refused(Refusal::ContentMismatch)), "{error:?}");
    assert_eq!(world.events(), [Event::Refused(Refusal::ContentMismatch)]);
    assert_eq!(world.row(image).await, ("refused".to_owned(), None));
    assert_eq!(versions(&world, image).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_from_before_the_bucket_had_versions_is_copied() {
    let world = World::new().await;
    let [alone, replaced] = [world.uploaded(PROFILE).await, world.uploaded(PROFILE).await];
    let world = world.pinning_by_version().await;
    world.upload(replaced, file(2)).await;
    assert_eq!(versions(&world, alone).await, ["null"]);
    assert!(matches!(world.links.link(world.user, alone, Profile).await, Ok(Linked::Now(_))));
    let (state, key) = world.row(alone).await;
    let key = key.unwrap();
    assert_eq!((state.as_str(), pinned(&world, alone).await), ("linked", None));
    assert_eq!(world.stand.storage.read(&key).await.unwrap(), Some(file(1).into()));
    assert!(matches!(world.links.link(world.user, alone, Profile).await, Ok(Linked::Before(_))));

    // The client has uploaded this one again.
    let all = versions(&world, replaced).await;
    assert!(matches!(world.links.link(world.user, replaced, Profile).await, Ok(Linked::Now(_))));
    assert_linked_by_version(&world, replaced, &all[0]).await;

    assert_eq!(world.objects().await, [incoming_key(replaced), key]);
    assert_eq!(versions(&world, alone).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_a_version_whose_answer_is_lost_is_found() {
    let (world, _relay) = World::behind_the_database(Mode::BreakAnswersTo(COMMIT)).await;
    let world = world.pinning_by_version().await;
    let image = world.uploaded(PROFILE).await;
    assert!(matches!(world.links.link(world.user, image, Profile).await, Ok(Linked::Now(_))));
    assert_linked_by_version(&world, image, &versions(&world, image).await[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_never_reaches_the_database_keeps_the_upload() {
    let (world, _relay) = World::behind_the_database(Mode::BreakRequestsWith(COMMIT)).await;
    let world = world.pinning_by_version().await;
    let image = world.uploaded(PROFILE).await;
    let error = world.links.link(world.user, image, Profile).await.unwrap_err();
    assert!(matches!(error, LinkError::Database(_)), "{error:?}");
    assert_eq!(world.row(image).await, ("pending".to_owned(), None));
    assert_eq!(versions(&world, image).await.len(), 1);
    assert_eq!(world.stand.count("image_attempt").await.unwrap(), 0, "nothing was written that a sweep must remove");
}
