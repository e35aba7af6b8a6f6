//! The claim: what the row says when an image is not available.

use upload_domain::{ImagePath, incoming_key};
use upload_link::{LinkError, Linked, Poster, Profile};
use uuid::Uuid;

use crate::{PROFILE, world::World};

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
async fn the_row_says_why_an_image_cannot_be_claimed() {
    let states = [
        (
            "UPDATE image SET attempt = gen_random_uuid(), attempt_kind = 'link', attempt_until = now() + interval '1 h'",
            "LinkInProgress",
        ),
        (
            "UPDATE image SET attempt = gen_random_uuid(), attempt_kind = 'upload', attempt_until = now() + interval '1 h'",
            "UploadInProgress",
        ),
        ("UPDATE image SET created_at = now() - interval '1 day'", "Expired"),
        ("UPDATE image SET deleting_at = now()", "Expired"),
        ("UPDATE image SET refused_code = 'content_mismatch'", "Refused(ContentMismatch)"),
        ("UPDATE \"user\" SET status = 'INACTIVE'", "Forbidden"),
    ];
    for (change, expected) in states {
        let world = World::new().await;
        let image = world.uploaded(PROFILE).await;
        world.stand.sql(change).await.unwrap();
        let before = world.stand.sql("SELECT image::text FROM image").await.unwrap();
        let error = world.links.link(world.user, image, Profile).await.unwrap_err();
        assert_eq!(format!("{error:?}"), expected, "{change}");
        assert_eq!(world.stand.sql("SELECT image::text FROM image").await.unwrap(), before, "{change}");
        assert_eq!(world.stand.count("image_attempt").await.unwrap(), 0, "{change}");
        assert_eq!(world.objects().await, [incoming_key(image)], "{change}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_linked_to_one_target_and_never_again() {
    let world = World::new().await;
    let (here, elsewhere) = (world.competition().await, world.competition().await);
    let (first, second) = (world.uploaded(ImagePath::Competition).await, world.uploaded(ImagePath::Competition).await);
    assert!(matches!(world.links.link(world.user, first, Poster(here)).await, Ok(Linked::Now(_))));
    let error = world.links.link(world.user, first, Poster(elsewhere)).await.unwrap_err();
    assert!(matches!(error, LinkError::AlreadyLinked), "{error:?}");
    // Another poster ends the link of the first.
    assert!(matches!(world.links.link(world.user, second, Poster(here)).await, Ok(Linked::Now(_))));
    let error = world.links.link(world.user, first, Poster(here)).await.unwrap_err();
    assert!(matches!(error, LinkError::AlreadyLinked), "{error:?}");
    let (rows, objects) = ([world.row(first).await, world.row(second).await], world.objects().await);
    for (state, key) in rows {
        assert_eq!(state, "linked");
        assert!(objects.contains(&key.unwrap()), "{objects:?}");
    }
    assert_eq!(objects.len(), 2, "{objects:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_host_may_link_a_poster() {
    let world = World::new().await;
    let (competition, image) = (world.competition().await, world.uploaded(ImagePath::Competition).await);
    world.stand.sql("UPDATE \"user\" SET role = 'USER'").await.unwrap();
    let error = world.links.link(world.user, image, Poster(competition)).await.unwrap_err();
    assert!(matches!(error, LinkError::Forbidden), "{error:?}");
    assert_eq!(world.row(image).await, ("pending".to_owned(), None));
    assert_eq!(world.objects().await, [incoming_key(image)]);
}
