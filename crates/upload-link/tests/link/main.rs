//! The protocol without HTTP, step by step: each [`LinkError`], each lost answer, and the row and the objects that it leaves. Real
//! Postgres, real S3.
//!
//! Two ways out are not here, because nothing outside the crate leads to them. One is `LinkError::Bug`. The other is
//! `UploadChanged` with a refusal: it needs a store that ignores the condition of a copy, or two files with one ETag.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod claim;
mod commit;
mod pin;
mod posts;
mod versions;
mod waits;
mod world;

use upload_domain::{ImagePath, incoming_key};
use upload_link::{Event, LinkError, Linked, Links, Profile};

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
async fn a_panic_is_an_error_and_does_not_undo_a_link() {
    let world = World::new().await;
    let Links { database, storage, limits, timing, background, .. } = world.links.clone();
    let links = Links::new(database, storage, limits, timing, background, 1, |_event| panic!("as the test wants it"));
    let image = world.uploaded(PROFILE).await;
    // The protocol reports a link after its commit.
    let error = links.link(world.user, image, Profile).await.unwrap_err();
    assert!(matches!(error, LinkError::Panicked(_)), "{error:?}");
    let (state, key) = world.row(image).await;
    assert_eq!((state.as_str(), world.objects().await), ("linked", vec![incoming_key(image), key.unwrap()]));
    assert!(matches!(world.links.link(world.user, image, Profile).await, Ok(Linked::Before(_))));
}
