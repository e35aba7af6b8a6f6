//! Posts: all of their images or none.

use upload_domain::{ImagePath, Role};
use upload_persistence::{
    image_attempts::{self, Left},
    images,
    posts::{self, CreateError, NewPost},
};

use crate::world::{Held, World, new_attempt, new_post};

async fn held_images(world: &World, count: usize) -> Vec<Held> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(world.held(world.user, ImagePath::Post).await);
    }
    held
}

#[tokio::test]
async fn a_post_keeps_its_images_in_the_order_given() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    for count in [0, 1, 10] {
        let mut held = held_images(&world, count).await;
        held.reverse(); // Not the order of their ids.
        let verified: Vec<_> = held.iter().map(Held::verified).collect();
        let new = NewPost { id: new_post(), user_id: world.user, title: "Gold", content: "At last." };
        let post = posts::create(&mut connection, &new, &verified).await.unwrap();
        assert_eq!((post.id, post.user_id, post.title.as_str()), (new.id, world.user, "Gold"));
        let (found, images) = posts::find_live(&mut connection, new.id).await.unwrap().unwrap();
        assert_eq!(found, post);
        let found: Vec<_> = images.iter().map(|image| image.id).collect();
        let given: Vec<_> = held.iter().map(|held| held.image).collect();
        assert_eq!(found, given);
        for held in &held {
            let image = images::find_for_update(&mut connection, held.image).await.unwrap().unwrap();
            assert!(image.linked_at.is_some());
            assert_eq!((image.media_key.as_deref(), image.attempt), (Some(held.media_key.as_str()), None));
        }
    }
}

#[tokio::test]
async fn a_post_with_one_lost_hold_links_none_and_names_it() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    let held = held_images(&world, 3).await;
    let other = world.add_user(Role::User).await;
    let foreign = world.held(other, ImagePath::Post).await;
    let profile = world.held(world.user, ImagePath::UserProfile).await;
    let mut stolen = held[1].verified();
    stolen.attempt = new_attempt();
    for lost in [stolen, foreign.verified(), profile.verified()] {
        let verified = [held[0].verified(), lost, held[2].verified()];
        let new = NewPost { id: new_post(), user_id: world.user, title: "", content: "" };
        let error = posts::create(&mut connection, &new, &verified).await.unwrap_err();
        assert!(matches!(error, CreateError::HoldLost(image) if image == lost.image), "{error:?}");
    }
    world.run_out(held[2].image).await;
    let verified: Vec<_> = held.iter().map(Held::verified).collect();
    let new = NewPost { id: new_post(), user_id: world.user, title: "", content: "" };
    let error = posts::create(&mut connection, &new, &verified).await.unwrap_err();
    assert!(matches!(error, CreateError::HoldLost(image) if image == held[2].image), "{error:?}");
    assert_eq!(world.stand.count("post").await.unwrap(), 0);
    assert_eq!(world.stand.count("post_image").await.unwrap(), 0);
    assert_eq!(world.stand.count("image WHERE linked_at IS NOT NULL").await.unwrap(), 0);
    for held in &held[..2] {
        assert!(
            image_attempts::release(&mut connection, held.image, held.attempt, Left::Nothing).await.unwrap(),
            "still held"
        );
    }
}

#[tokio::test]
async fn a_user_who_may_not_act_makes_no_post_and_deletes_none() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    let temporary = world.add_user(Role::TemporaryUser).await;
    let new = NewPost { id: new_post(), user_id: temporary, title: "", content: "" };
    assert!(matches!(posts::create(&mut connection, &new, &[]).await, Err(CreateError::Forbidden)));

    let mine = NewPost { id: new_post(), user_id: world.user, title: "", content: "" };
    posts::create(&mut connection, &mine, &[]).await.unwrap();
    let other = world.add_user(Role::Admin).await;
    assert!(!posts::delete(&mut connection, mine.id, other).await.unwrap());
    world.deactivate(world.user).await;
    assert!(!posts::delete(&mut connection, mine.id, world.user).await.unwrap());
    assert!(posts::find_live(&mut connection, mine.id).await.unwrap().is_some());
    let held = Held {
        image: uuid::Uuid::now_v7().into(),
        user: world.user,
        attempt: new_attempt(),
        media_key: "media/".into(),
    };
    let new = NewPost { id: new_post(), user_id: world.user, title: "", content: "" };
    let error = posts::create(&mut connection, &new, &[held.verified()]).await.unwrap_err();
    assert!(matches!(error, CreateError::HoldLost(_)), "there is no such image: {error:?}");
}

#[tokio::test]
async fn a_deleted_post_takes_its_images_out_of_sight() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    let held = world.held(world.user, ImagePath::Post).await;
    let new = NewPost { id: new_post(), user_id: world.user, title: "", content: "" };
    posts::create(&mut connection, &new, &[held.verified()]).await.unwrap();
    assert!(images::find_served(&mut connection, held.image).await.unwrap().is_some());
    assert!(posts::delete(&mut connection, new.id, world.user).await.unwrap());
    assert!(!posts::delete(&mut connection, new.id, world.user).await.unwrap());
    assert_eq!(posts::find_live(&mut connection, new.id).await.unwrap(), None);
    assert_eq!(images::find_served(&mut connection, held.image).await.unwrap(), None);
}
