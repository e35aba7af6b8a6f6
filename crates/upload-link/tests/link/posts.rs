//! A post with its images: all or nothing.

use upload_domain::{ImageId, ImagePath, incoming_key};
use upload_link::{LinkError, PostError, PostText};
use upload_persistence::posts;
use upload_sandbox::relay::Mode;

use crate::world::World;

/// A post's text is in its commit alone.
const COMMIT: &str = "At the lake";

fn text() -> PostText {
    PostText { title: "Sunday".to_owned(), content: COMMIT.to_owned() }
}

async fn two_images(world: &World) -> Vec<ImageId> {
    vec![world.uploaded(ImagePath::Post).await, world.uploaded(ImagePath::Post).await]
}

/// There is no post, both images can be linked at once, and no copy is left.
async fn assert_nothing_happened(world: &World, images: &[ImageId]) {
    for image in images {
        assert_eq!(world.row(*image).await, ("pending".to_owned(), None));
    }
    assert_eq!(world.objects().await, images.iter().copied().map(incoming_key).collect::<Vec<_>>());
    assert_eq!(world.stand.count("post").await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_links_its_images_in_their_order() {
    let world = World::new().await;
    let mut images = Vec::new();
    for _image in 0..3 {
        images.push(world.uploaded(ImagePath::Post).await);
    }
    images.reverse();
    let (post, linked) = world.links.create_post(world.user, text(), images.clone()).await.unwrap();
    assert_eq!(linked.iter().map(|image| image.id).collect::<Vec<_>>(), images);
    assert_eq!(world.events().len(), 3);
    let mut connection = world.stand.database.connection().await.unwrap();
    assert_eq!(posts::find_live(&mut connection, post.id).await.unwrap(), Some((post, linked)));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_image_that_cannot_be_linked_frees_the_others_and_is_named() {
    let world = World::new().await;
    let good = world.uploaded(ImagePath::Post).await;
    let missing = world.pending(ImagePath::Post).await;
    let error = world.links.create_post(world.user, text(), vec![good, missing]).await.unwrap_err();
    assert!(matches!(error.error, LinkError::NotUploaded), "{error:?}");
    assert_eq!(error.image, Some(missing));
    assert_eq!(world.row(good).await, ("pending".to_owned(), None));
    assert_eq!(world.objects().await, [incoming_key(good)]);
    assert_eq!(world.stand.count("post").await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_whose_answer_is_lost_is_found() {
    let (world, _relay) = World::behind_the_database(Mode::BreakAnswersTo(COMMIT)).await;
    let image = world.uploaded(ImagePath::Post).await;
    let (post, _images) = world.links.create_post(world.user, text(), vec![image]).await.unwrap();
    assert_eq!(world.stand.count(&format!("post WHERE id = '{}'", post.id)).await.unwrap(), 1);
    assert_eq!(world.row(image).await.0, "linked");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_image_that_cannot_be_claimed_frees_the_others_and_is_named() {
    let world = World::new().await;
    let (first, images) = (world.uploaded(ImagePath::Post).await, two_images(&world).await);
    world.links.create_post(world.user, text(), vec![first]).await.unwrap();
    let error = world.links.create_post(world.user, text(), vec![images[0], first, images[1]]).await.unwrap_err();
    assert!(
        matches!(error, PostError { image: Some(image), error: LinkError::AlreadyLinked } if image == first),
        "{error:?}"
    );
    let (_state, key) = world.row(first).await;
    assert_eq!(world.objects().await, [incoming_key(images[0]), incoming_key(images[1]), key.unwrap()]);
    for image in images {
        assert_eq!(world.row(image).await, ("pending".to_owned(), None));
    }
    assert_eq!(world.stand.count("post").await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_lost_an_image_before_its_commit_names_it_and_leaves_no_copy() {
    let changes = [("deleting_at = now()", "Expired"), ("attempt_until = now() - interval '1 s'", "LinkInProgress")];
    for (change, expected) in changes {
        let (world, relay) = World::behind_the_database(Mode::HoldRequestsWith(COMMIT)).await;
        let images = two_images(&world).await;
        let post = world.begin_post(text(), &images);
        relay.holds(1).await;
        world.stand.sql(&format!("UPDATE image SET {change} WHERE id = '{}'", images[1])).await.unwrap();
        relay.set(Mode::Pass);
        let error = post.await.unwrap().unwrap_err();
        assert_eq!((error.image, format!("{:?}", error.error).as_str()), (Some(images[1]), expected), "{change}");
        assert_nothing_happened(&world, &images).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_author_who_may_not_act_at_the_commit_makes_no_post() {
    let (world, relay) = World::behind_the_database(Mode::HoldRequestsWith(COMMIT)).await;
    let images = two_images(&world).await;
    let post = world.begin_post(text(), &images);
    relay.holds(1).await;
    world.stand.sql("UPDATE \"user\" SET status = 'INACTIVE'").await.unwrap();
    relay.set(Mode::Pass);
    let error = post.await.unwrap().unwrap_err();
    assert!(matches!(error, PostError { image: None, error: LinkError::Forbidden }), "{error:?}");
    assert_nothing_happened(&world, &images).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_whose_commit_never_reaches_the_database_leaves_no_copy() {
    let (world, _relay) = World::behind_the_database(Mode::BreakRequestsWith(COMMIT)).await;
    let images = two_images(&world).await;
    let error = world.links.create_post(world.user, text(), images.clone()).await.unwrap_err();
    assert!(matches!(error, PostError { image: None, error: LinkError::Database(_) }), "{error:?}");
    assert_nothing_happened(&world, &images).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_is_committed_but_cannot_be_read_keeps_its_objects() {
    let (world, relay) = World::behind_the_database(Mode::HoldAnswersTo(COMMIT)).await;
    let images = two_images(&world).await;
    let post = world.begin_post(text(), &images);
    // Postgres has committed and answered. The answer does not come, and nobody else does either.
    relay.holds(1).await;
    relay.set(Mode::Down);
    let error = post.await.unwrap().unwrap_err();
    assert!(matches!(error, PostError { image: None, error: LinkError::Database(_) }), "{error:?}");
    let objects = world.objects().await;
    for image in &images {
        let (state, key) = world.row(*image).await;
        assert_eq!(state, "linked");
        assert!(objects.contains(&key.unwrap()), "{objects:?}");
    }
    assert_eq!(world.stand.count("post").await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_whose_answer_is_lost_after_another_post_took_an_image_names_it() {
    // Of the two images, another post takes one, or both.
    for taken in [1, 2] {
        let (world, relay) = World::behind_the_database(Mode::HoldRequestsWith(COMMIT)).await;
        let images = two_images(&world).await;
        let post = world.begin_post(text(), &images);
        relay.holds(1).await;
        let (theirs, ours) = images.split_at(taken);
        for image in theirs {
            let over = format!("UPDATE image SET attempt_until = now() - interval '1 s' WHERE id = '{image}'");
            world.stand.sql(&over).await.unwrap();
        }
        world.direct().create_post(world.user, text(), theirs.to_vec()).await.unwrap();
        relay.set(Mode::BreakNextAnswer);
        let error = post.await.unwrap().unwrap_err();
        assert!(matches!(error.error, LinkError::AlreadyLinked), "{taken}: {error:?}");
        assert_eq!(error.image, Some(theirs[0]), "{taken}");
        let mut left: Vec<_> = ours.iter().copied().map(incoming_key).collect();
        for image in ours {
            assert_eq!(world.row(*image).await, ("pending".to_owned(), None), "{taken}");
        }
        for image in theirs {
            let (state, key) = world.row(*image).await;
            assert_eq!(state, "linked", "{taken}");
            left.extend(key);
        }
        assert_eq!(world.objects().await, left, "{taken}: the copies of the other post alone");
        assert_eq!(world.stand.count("post").await.unwrap(), 1, "{taken}");
    }
}
