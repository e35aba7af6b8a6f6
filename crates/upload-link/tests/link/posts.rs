//! A post with its images: all or nothing.

use upload_domain::{ImagePath, incoming_key};
use upload_link::{LinkError, PostText};
use upload_persistence::posts;

use crate::world::World;

fn text() -> PostText {
    PostText { title: "Sunday".to_owned(), content: "At the lake".to_owned() }
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
    let (world, _relay) = World::losing_answers_of_the_database("At the lake").await;
    let image = world.uploaded(ImagePath::Post).await;
    let (post, _images) = world.links.create_post(world.user, text(), vec![image]).await.unwrap();
    assert_eq!(world.stand.count(&format!("post WHERE id = '{}'", post.id)).await.unwrap(), 1);
    assert_eq!(world.row(image).await.0, "linked");
}
