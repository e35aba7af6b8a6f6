//! What a link waits for before it works: its turn, and connections to the database.

use std::time::Duration;

use futures::poll;
use tokio::runtime::Handle;
use upload_domain::{ImageId, incoming_key};
use upload_link::{LinkError, Linked, Links, PostText, Profile};
use upload_persistence::{Database, DatabaseError, DatabaseSettings};
use upload_sandbox::relay::{Mode, Relay};
use upload_storage::StorageError;

use crate::{PROFILE, world::World};

/// Of the requests to the store, the copy alone has this header.
const COPY: &str = "x-amz-copy-source";

#[tokio::test(flavor = "multi_thread")]
async fn a_link_waits_longer_for_a_connection_than_others() {
    let (mut world, relay) = World::behind_the_store(Mode::HoldRequestsWith(COPY)).await;
    let narrow = DatabaseSettings {
        database_pool_size: 1,
        database_wait_timeout_ms: 1,
        ..DatabaseSettings::for_url(&world.stand.database_url)
    };
    let database = Database::new(&narrow, Handle::current()).unwrap();
    world.links.database = database.clone();
    let overloaded = async || {
        for _ in 0..50 {
            assert!(matches!(database.ping().await, Err(DatabaseError::Overloaded)));
        }
    };
    let image = world.uploaded(PROFILE).await;

    let only = database.connection().await.unwrap();
    let link = world.begin(image, Profile);
    overloaded().await;
    drop(only);
    // It has claimed the image.
    relay.holds(1).await;

    let only = database.connection().await.unwrap();
    relay.set(Mode::Pass);
    while world.stand.storage.list("media/").await.unwrap().is_empty() {}
    overloaded().await;
    drop(only);
    assert!(matches!(link.await.unwrap(), Ok(Linked::Now(_))));
}

/// Links one image after another.
async fn serve(world: &World) {
    loop {
        let image = world.uploaded(PROFILE).await;
        assert!(matches!(world.begin(image, Profile).await.unwrap(), Ok(Linked::Now(_))));
    }
}

/// Links this image to its end. The store answers no request with this text until the relay has held so many, but goes on to serve others.
async fn link_while_busy(world: &World, relay: &Relay, slow: ImageId, held: String, most: usize) {
    relay.set(Mode::HoldRequestsWith(held.leak()));
    let mut link = world.begin(slow, Profile);
    tokio::select! {
        ended = &mut link => panic!("the link gave up: {ended:?}"),
        () = serve(world) => {}
        () = relay.holds(most) => {}
    }
    relay.set(Mode::Pass);
    assert!(matches!(link.await.unwrap(), Ok(Linked::Now(_))));
}

/// A store that is busy, not down, as MinIO is with a thousand uploads at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_tries_again_after_a_timeout_if_the_store_serves_others() {
    let (world, relay) = World::behind_the_store(Mode::Pass).await;
    let slow = world.uploaded(PROFILE).await;
    // One request has two attempts within its time limit, so the third is another request.
    link_while_busy(&world, &relay, slow, incoming_key(slow), 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_ends_after_one_timeout_if_the_store_serves_nobody_any_more() {
    let (world, relay) = World::behind_the_store(Mode::Pass).await;
    let (slow, other) = (world.uploaded(PROFILE).await, world.uploaded(PROFILE).await);
    relay.set(Mode::HoldRequestsWith(incoming_key(slow).leak()));
    let mut link = world.begin(slow, Profile);
    relay.holds(1).await;
    assert!(matches!(world.begin(other, Profile).await.unwrap(), Ok(Linked::Now(_))));
    tokio::select! {
        ended = &mut link => assert!(matches!(ended.unwrap(), Err(LinkError::Storage(StorageError::Timeout(_))))),
        () = relay.holds(3) => panic!("the link tries again"),
    }
}

/// The store may carry out a copy that was given up, after another copy has been linked.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_tries_again_copies_to_another_key() {
    let (world, relay) = World::behind_the_store(Mode::Pass).await;
    let slow = world.uploaded(PROFILE).await;
    // Two attempts to copy and two to look for the copy; then the link gives up this key.
    link_while_busy(&world, &relay, slow, format!("media/{slow}"), 5).await;
    let first =
        world.stand.sql(&format!("SELECT key FROM image_attempt WHERE key LIKE 'media/{slow}/%'")).await.unwrap();
    let (_state, served) = world.row(slow).await;
    assert_eq!(first.len(), 1);
    assert_ne!(first[0][0], served);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_waits_for_its_turn_ends_when_its_client_leaves() {
    let world = World::new().await;
    let Links { database, storage, limits, timing, background, .. } = world.links.clone();
    let links = Links::new(database, storage, limits, timing, background, 0, |_event| {});
    let image = world.uploaded(PROFILE).await;
    let text = PostText { title: "Title".to_owned(), content: String::new() };
    {
        let mut link = Box::pin(links.link(world.user, image, Profile));
        let mut post = Box::pin(links.create_post(world.user, text, vec![image]));
        assert!(poll!(&mut link).is_pending());
        assert!(poll!(&mut post).is_pending());
    }
    assert!(links.background.drain(Duration::ZERO).await, "nothing waits any more");
}
