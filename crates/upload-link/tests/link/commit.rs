//! The commit of one image: alone, after the image was lost, and with its answer lost.

use upload_domain::{ImagePath, incoming_key};
use upload_link::{LinkError, Linked, Poster, Profile};
use upload_sandbox::relay::Mode;

use crate::{PROFILE, world::World};

/// Of what a link says to the database, the path is in the commit alone.
const COMMIT: &str = "user-profile";

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_v1_has_stored_are_committed_as_they_are() {
    let world = World::new().await;
    let (image, key) = world.stored(PROFILE).await;
    assert!(matches!(world.links.link(world.user, image, Profile).await, Ok(Linked::Now(_))));
    assert_eq!(world.row(image).await, ("linked".to_owned(), Some(key.clone())));
    assert_eq!(world.objects().await, [key]);
    assert_eq!(world.stand.count("image_attempt").await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_v1_has_stored_outlive_a_commit_that_fails() {
    let (world, relay) = World::behind_the_database(Mode::BreakRequestsWith(COMMIT)).await;
    let (image, key) = world.stored(PROFILE).await;
    let error = world.links.link(world.user, image, Profile).await.unwrap_err();
    assert!(matches!(error, LinkError::Database(_)), "{error:?}");
    assert_eq!(world.row(image).await, ("pending".to_owned(), Some(key.clone())));
    assert_eq!(world.objects().await, [key]);
    relay.set(Mode::Pass);
    assert!(matches!(world.links.link(world.user, image, Profile).await, Ok(Linked::Now(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_lost_the_image_before_its_commit_says_why_and_leaves_no_copy() {
    let changes = [
        ("UPDATE image SET deleting_at = now()", "Expired", "pending"),
        ("UPDATE image SET attempt_until = now() - interval '1 s'", "LinkInProgress", "pending"),
        ("UPDATE image SET attempt = gen_random_uuid()", "LinkInProgress", "held"),
        ("UPDATE image SET attempt = gen_random_uuid(), attempt_kind = 'upload'", "UploadInProgress", "held"),
        ("UPDATE image SET refused_code = 'content_mismatch'", "Refused(ContentMismatch)", "refused"),
        ("UPDATE \"user\" SET status = 'INACTIVE'", "Forbidden", "pending"),
    ];
    for (change, expected, state) in changes {
        let (world, relay) = World::behind_the_database(Mode::HoldRequestsWith(COMMIT)).await;
        let image = world.uploaded(PROFILE).await;
        let link = world.begin(image, Profile);
        relay.holds(1).await;
        world.stand.sql(change).await.unwrap();
        relay.set(Mode::Pass);
        let error = link.await.unwrap().unwrap_err();
        assert_eq!(format!("{error:?}"), expected, "{change}");
        assert_eq!(world.row(image).await, (state.to_owned(), None), "{change}");
        assert_eq!(world.objects().await, [incoming_key(image)], "{change}");
        assert_eq!(world.stand.count("user_profile_image").await.unwrap(), 0, "{change}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_who_is_none_at_the_commit_links_no_poster() {
    let (world, relay) =
        World::behind_the_database(Mode::HoldRequestsWith("INSERT INTO competition_poster_image")).await;
    let (competition, image) = (world.competition().await, world.uploaded(ImagePath::Competition).await);
    let link = world.begin(image, Poster(competition));
    relay.holds(1).await;
    world.stand.sql("UPDATE \"user\" SET role = 'USER'").await.unwrap();
    relay.set(Mode::Pass);
    let error = link.await.unwrap().unwrap_err();
    assert!(matches!(error, LinkError::Forbidden), "{error:?}");
    assert_eq!(world.row(image).await, ("pending".to_owned(), None));
    assert_eq!(world.objects().await, [incoming_key(image)]);
    assert_eq!(world.stand.count("competition_poster_image").await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_found() {
    let (world, _relay) = World::behind_the_database(Mode::BreakAnswersTo(COMMIT)).await;
    let image = world.uploaded(PROFILE).await;
    assert!(matches!(world.links.link(world.user, image, Profile).await, Ok(Linked::Now(_))));
    let (state, key) = world.row(image).await;
    assert_eq!((state.as_str(), world.objects().await), ("linked", vec![key.unwrap()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_never_reaches_the_database_leaves_no_copy() {
    let (world, _relay) = World::behind_the_database(Mode::BreakRequestsWith(COMMIT)).await;
    let image = world.uploaded(PROFILE).await;
    let error = world.links.link(world.user, image, Profile).await.unwrap_err();
    assert!(matches!(error, LinkError::Database(_)), "{error:?}");
    assert_eq!(world.row(image).await, ("pending".to_owned(), None));
    assert_eq!(world.objects().await, [incoming_key(image)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_while_nobody_can_tell_whether_it_was_committed() {
    // Neither the commit is answered, nor the question whether it took place.
    let (world, _relay) = World::behind_the_database(Mode::BreakAnswersTo("attempt = NULL")).await;
    let image = world.uploaded(PROFILE).await;
    let error = world.links.link(world.user, image, Profile).await.unwrap_err();
    assert!(matches!(error, LinkError::Database(_)), "{error:?}");
    let objects = world.objects().await;
    let copies: Vec<_> = objects.iter().filter(|key| key.starts_with("media/")).collect();
    assert_eq!(copies.len(), 1, "{objects:?}");
    let named = format!("image_attempt WHERE key = '{}'", copies[0]);
    assert_eq!(world.stand.count(&named).await.unwrap(), 1, "a sweep knows of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_after_another_link_is_told_of_that_link() {
    let (world, relay) = World::behind_the_database(Mode::HoldRequestsWith(COMMIT)).await;
    let image = world.uploaded(PROFILE).await;
    let link = world.begin(image, Profile);
    relay.holds(1).await;
    world.stand.sql("UPDATE image SET attempt_until = now() - interval '1 s'").await.unwrap();
    assert!(matches!(world.direct().link(world.user, image, Profile).await, Ok(Linked::Now(_))));
    relay.set(Mode::BreakNextAnswer);
    let error = link.await.unwrap().unwrap_err();
    assert!(matches!(error, LinkError::AlreadyLinked), "{error:?}");
    let (state, key) = world.row(image).await;
    assert_eq!(
        (state.as_str(), world.objects().await),
        ("linked", vec![key.unwrap()]),
        "the copy of the other link alone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_told_who_took_the_image() {
    let changes = [
        ("attempt = gen_random_uuid()", "LinkInProgress", "held"),
        ("attempt = gen_random_uuid(), attempt_kind = 'upload'", "UploadInProgress", "held"),
        ("attempt = NULL, attempt_kind = NULL, attempt_until = NULL, deleting_at = now()", "Expired", "pending"),
        // Nobody has the image, so the lost answer is all there is to say.
        ("attempt = NULL, attempt_kind = NULL, attempt_until = NULL", "Database", "pending"),
        // The attempt itself still had it.
        ("attempt_until = now() - interval '1 s'", "Database", "pending"),
    ];
    for (change, expected, state) in changes {
        let (world, relay) = World::behind_the_database(Mode::HoldRequestsWith(COMMIT)).await;
        let image = world.uploaded(PROFILE).await;
        let link = world.begin(image, Profile);
        relay.holds(1).await;
        world.stand.sql(&format!("UPDATE image SET {change}")).await.unwrap();
        relay.set(Mode::BreakNextAnswer);
        let error = link.await.unwrap().unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{change}: {error:?}");
        assert_eq!(world.row(image).await, (state.to_owned(), None), "{change}");
        assert_eq!(world.objects().await, [incoming_key(image)], "{change}");
    }
}
