//! What a link waits for before it works: its turn.

use std::time::Duration;

use futures::poll;
use upload_link::{Links, PostText, Profile};

use crate::{PROFILE, world::World};

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
