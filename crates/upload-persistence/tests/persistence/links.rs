//! Profile images and posters: who may link, what a link changes, and what remains after a replacement.

use std::{collections::BTreeMap, time::Duration};

use upload_domain::{CompetitionId, ImagePath, Role, UserStatus, incoming_key};
use upload_persistence::{
    Verified,
    competitions::{self, NewCompetition},
    images,
    poster_images::{self, Permission},
    posts::{self, NewPost},
    profile_images, users,
};
use uuid::Uuid;

use crate::world::{Held, World, new_attempt, new_post};

#[tokio::test]
async fn a_profile_link_changes_the_image_the_link_and_the_user_together() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    assert_eq!(profile_images::find_live(&mut connection, world.user).await.unwrap(), None);
    let held = world.held(world.user, ImagePath::UserProfile).await;
    let link = profile_images::link(&mut connection, &held.verified()).await.unwrap().unwrap();
    assert_eq!((link.user_id, link.image_id, link.deleted_at), (world.user, held.image, None));

    let (live, image) = profile_images::find_live(&mut connection, world.user).await.unwrap().unwrap();
    assert_eq!(live, link);
    assert_eq!(profile_images::find_by_image(&mut connection, held.image).await.unwrap(), Some(link));
    assert!(image.linked_at.is_some());
    assert_eq!(image.media_key.as_deref(), Some(held.media_key.as_str()));
    assert_eq!((image.byte_size, image.width, image.height), (Some(1234), Some(640), Some(480)));
    let user = users::find(&mut connection, world.user).await.unwrap().unwrap();
    assert_eq!(user.profile_image_url_key, Some(held.media_key.clone()));

    let again = profile_images::link(&mut connection, &held.verified()).await.unwrap();
    assert_eq!(again, None, "an image is linked once in its life");
}

#[tokio::test]
async fn a_version_is_served_with_its_key_and_stays_for_the_sweep() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    let host = world.add_user(Role::Host).await;
    let competition = world.competition(host).await;
    let [profile, poster, post] = [
        world.held(world.user, ImagePath::UserProfile).await,
        world.held(host, ImagePath::Competition).await,
        world.held(world.user, ImagePath::Post).await,
    ];
    let keys = [&profile, &poster, &post].map(|held| incoming_key(held.image));
    fn verified<'a>(held: &'a Held, key: &'a str, version: &'a str) -> Verified<'a> {
        Verified { media_key: key, media_version: Some(version), ..held.verified() }
    }
    profile_images::link(&mut connection, &verified(&profile, &keys[0], "a")).await.unwrap().unwrap();
    poster_images::link(&mut connection, competition, host, &verified(&poster, &keys[1], "b")).await.unwrap().unwrap();
    let new = NewPost { id: new_post(), user_id: world.user, title: "Title", content: "" };
    posts::create(&mut connection, &new, &[verified(&post, &keys[2], "c")]).await.unwrap();
    for (held, (key, version)) in [&profile, &poster, &post].into_iter().zip(keys.iter().zip(["a", "b", "c"])) {
        let served = images::find_served(&mut connection, held.image).await.unwrap().unwrap();
        assert_eq!((&served.media_key, served.media_version.as_deref()), (key, Some(version)));
    }
    let user = users::find(&mut connection, world.user).await.unwrap().unwrap();
    assert_eq!(user.profile_image_url_key, Some(format!("{}?versionId=a", keys[0])));
    let due = images::take_incoming(&mut connection, Duration::ZERO, 500).await.unwrap();
    let kept: BTreeMap<_, _> = due.into_iter().map(|image| (image.id, image.media_version.unwrap())).collect();
    let expected = [(profile.image, "a"), (poster.image, "b"), (post.image, "c")];
    assert_eq!(kept, expected.map(|(id, version)| (id, version.to_owned())).into());
    assert_eq!(world.trail().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_replaced_profile_image_stays_as_history() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    let (first, second) =
        (world.held(world.user, ImagePath::UserProfile).await, world.held(world.user, ImagePath::UserProfile).await);
    profile_images::link(&mut connection, &first.verified()).await.unwrap().unwrap();
    let link = profile_images::link(&mut connection, &second.verified()).await.unwrap().unwrap();
    let (live, _image) = profile_images::find_live(&mut connection, world.user).await.unwrap().unwrap();
    assert_eq!(live, link);
    let old = profile_images::find_by_image(&mut connection, first.image).await.unwrap().unwrap();
    assert!(old.deleted_at.is_some());

    assert!(profile_images::delete_live(&mut connection, world.user).await.unwrap());
    assert!(!profile_images::delete_live(&mut connection, world.user).await.unwrap());
    assert_eq!(profile_images::find_live(&mut connection, world.user).await.unwrap(), None);
    assert_eq!(users::find(&mut connection, world.user).await.unwrap().unwrap().profile_image_url_key, None);
    assert_eq!(world.stand.count("user_profile_image WHERE deleted_at IS NOT NULL").await.unwrap(), 2);
}

#[tokio::test]
async fn a_link_whose_hold_is_lost_changes_nothing() {
    let world = World::new().await;
    let mut connection = world.connection().await;
    let held = world.held(world.user, ImagePath::UserProfile).await;

    let mut other = held.verified();
    other.attempt = new_attempt();
    assert_eq!(profile_images::link(&mut connection, &other).await.unwrap(), None, "another attempt");
    let mut other = held.verified();
    other.user = world.add_user(Role::User).await;
    assert_eq!(profile_images::link(&mut connection, &other).await.unwrap(), None, "another user");

    let wrong_path = world.held(world.user, ImagePath::Post).await;
    assert_eq!(profile_images::link(&mut connection, &wrong_path.verified()).await.unwrap(), None, "another path");

    world.run_out(held.image).await;
    assert_eq!(profile_images::link(&mut connection, &held.verified()).await.unwrap(), None, "the lease ran out");

    let deleting = world.held(world.user, ImagePath::UserProfile).await;
    world.sql(&format!("UPDATE image SET deleting_at = now() WHERE id = '{}'", deleting.image)).await;
    assert_eq!(profile_images::link(&mut connection, &deleting.verified()).await.unwrap(), None, "being removed");

    let late = world.held(world.user, ImagePath::UserProfile).await;
    world.deactivate(world.user).await;
    assert_eq!(profile_images::link(&mut connection, &late.verified()).await.unwrap(), None, "the owner may not act");
    assert!(!profile_images::delete_live(&mut connection, world.user).await.unwrap());

    assert_eq!(world.stand.count("user_profile_image").await.unwrap(), 0);
    assert_eq!(world.stand.count("image WHERE linked_at IS NOT NULL").await.unwrap(), 0);
    assert_eq!(world.stand.count("\"user\" WHERE profile_image_url_key IS NOT NULL").await.unwrap(), 0);
}

#[tokio::test]
async fn hosts_and_admins_create_competitions_and_nobody_else() {
    let world = World::new().await;
    for (role, status, may) in [
        (Role::Admin, UserStatus::Active, true),
        (Role::Host, UserStatus::Active, true),
        (Role::User, UserStatus::Active, false),
        (Role::TemporaryUser, UserStatus::Active, false),
        (Role::Host, UserStatus::Inactive, false),
    ] {
        let host_user_id = world.stand.add_user(role, status).await.unwrap();
        let new = NewCompetition { id: CompetitionId::from(Uuid::now_v7()), title: "Open", host_user_id };
        let mut connection = world.connection().await;
        let created = competitions::insert(&mut connection, &new).await.unwrap();
        assert_eq!(created.is_some(), may, "{role} {status}");
        assert_eq!(competitions::find(&mut connection, new.id).await.unwrap(), created);
    }
}

#[tokio::test]
async fn a_poster_is_set_by_an_admin_or_its_own_host() {
    let world = World::new().await;
    let host = world.add_user(Role::Host).await;
    let competition = world.competition(host).await;
    let missing = CompetitionId::from(Uuid::now_v7());
    let mut live = None;
    for (role, own, permission) in [
        (Role::Host, true, Permission::Allowed),
        (Role::Admin, false, Permission::Allowed),
        (Role::Host, false, Permission::Forbidden),
    ] {
        let caller = if own { host } else { world.add_user(role).await };
        let mut connection = world.connection().await;
        assert_eq!(poster_images::may_link(&mut connection, competition, caller).await.unwrap(), permission, "{role}");
        assert_eq!(poster_images::may_link(&mut connection, missing, caller).await.unwrap(), Permission::Missing);
        let held = world.held(caller, ImagePath::Competition).await;
        assert_eq!(poster_images::link(&mut connection, missing, caller, &held.verified()).await.unwrap(), None);
        let linked = poster_images::link(&mut connection, competition, caller, &held.verified()).await.unwrap();
        assert_eq!(linked.is_some(), permission == Permission::Allowed, "{role}");
        live = linked.or(live);
        let found =
            poster_images::find_live(&mut connection, competition).await.unwrap().map(|(poster, _image)| poster);
        assert_eq!(found, live);
        let row = images::find_for_update(&mut connection, held.image).await.unwrap().unwrap();
        assert_eq!(row.linked_at.is_some(), permission == Permission::Allowed);
    }
    assert_eq!(world.stand.count("competition_poster_image").await.unwrap(), 2);
    assert_eq!(world.stand.count("competition_poster_image WHERE deleted_at IS NULL").await.unwrap(), 1);

    let mut connection = world.connection().await;
    for caller in [world.user, world.add_user(Role::TemporaryUser).await, Uuid::now_v7().into()] {
        assert_eq!(
            poster_images::may_link(&mut connection, competition, caller).await.unwrap(),
            Permission::Forbidden,
            "{caller}"
        );
    }
    world.deactivate(host).await;
    assert_eq!(poster_images::may_link(&mut connection, competition, host).await.unwrap(), Permission::Forbidden);
}

#[tokio::test]
async fn a_host_who_loses_the_role_loses_the_poster_too() {
    let world = World::new().await;
    let host = world.add_user(Role::Host).await;
    let competition = world.competition(host).await;
    let held = world.held(host, ImagePath::Competition).await;
    world.sql(&format!("UPDATE \"user\" SET role = 'USER' WHERE id = '{host}'")).await;
    let mut connection = world.connection().await;
    assert_eq!(poster_images::link(&mut connection, competition, host, &held.verified()).await.unwrap(), None);
    assert_eq!(poster_images::find_by_image(&mut connection, held.image).await.unwrap(), None);
}

#[tokio::test]
async fn only_active_and_registered_users_are_found_as_such() {
    let world = World::new().await;
    for (role, status, may) in [
        (Role::Admin, UserStatus::Active, true),
        (Role::User, UserStatus::Active, true),
        (Role::TemporaryUser, UserStatus::Active, false),
        (Role::User, UserStatus::Inactive, false),
    ] {
        let id = world.stand.add_user(role, status).await.unwrap();
        let mut connection = world.connection().await;
        let user = users::find(&mut connection, id).await.unwrap().unwrap();
        assert_eq!((user.role, user.status), (role, status));
        assert_eq!(users::find_active(&mut connection, id).await.unwrap(), may.then_some(user));
    }
    let mut connection = world.connection().await;
    assert_eq!(users::find(&mut connection, Uuid::now_v7().into()).await.unwrap(), None);
}
