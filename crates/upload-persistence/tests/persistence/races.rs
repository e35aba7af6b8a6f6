//! Concurrent calls: exactly one wins, and there is no deadlock.

use std::{collections::BTreeSet, sync::Arc};

use futures::future::join_all;
use tokio::sync::Barrier;
use upload_domain::{ImagePath, Role};
use upload_persistence::{
    Database, image_attempts,
    images::{self, Standing},
    poster_images,
    posts::{self, CreateError, NewPost},
    profile_images,
};

use crate::world::{CUTOFF, FORM_LIFE, Held, LEASE, PENDING_TTL, World, new_attempt, new_post};

const ROUNDS: usize = 20;

/// Runs `racers` of these at once, each with its own connection, and returns all outcomes.
async fn race<Outcome, Racer>(
    world: &World,
    database: &Database,
    racers: usize,
    run: impl Fn(usize, upload_persistence::PooledConnection) -> Racer,
) -> Vec<Outcome>
where
    Outcome: Send + 'static,
    Racer: Future<Output = Outcome> + Send + 'static,
{
    let start = Arc::new(Barrier::new(racers));
    let mut running = Vec::new();
    for racer in 0..racers {
        let connection = database.connection().await.unwrap();
        let (start, run) = (Arc::clone(&start), run(racer, connection));
        running.push(world.stand.runtime().spawn(async move {
            start.wait().await;
            run.await
        }));
    }
    join_all(running).await.into_iter().map(Result::unwrap).collect()
}

#[tokio::test]
async fn sixteen_claims_have_one_winner() {
    let world = World::new().await;
    let database = world.database(|settings| settings.database_pool_size = 16);
    for _ in 0..ROUNDS {
        let (image, user) = (world.pending(world.user, ImagePath::Post).await, world.user);
        let claims = race(&world, &database, 16, |_, mut connection| async move {
            image_attempts::claim_link(&mut connection, image, user, new_attempt(), LEASE, CUTOFF).await.unwrap()
        })
        .await;
        assert_eq!(claims.iter().flatten().count(), 1);
    }
}

#[tokio::test]
async fn sixteen_images_linked_to_one_profile_at_once_leave_one_live() {
    let world = World::new().await;
    let database = world.database(|settings| settings.database_pool_size = 16);
    for _ in 0..ROUNDS {
        let user = world.add_user(Role::User).await;
        let mut held = Vec::new();
        for _ in 0..16 {
            held.push(Arc::new(world.held(user, ImagePath::UserProfile).await));
        }
        let links = race(&world, &database, 16, |racer, mut connection| {
            let held = Arc::clone(&held[racer]);
            async move { profile_images::link(&mut connection, &held.verified()).await.unwrap() }
        })
        .await;
        assert_eq!(links.iter().flatten().count(), 16, "each of them was linked for a moment");
        let live = format!("user_profile_image WHERE user_id = '{user}' AND deleted_at IS NULL");
        assert_eq!(world.stand.count(&live).await.unwrap(), 1);
        let (_, image) = profile_images::find_live(&mut *world.connection().await, user).await.unwrap().unwrap();
        let shown = world.value(&format!("SELECT profile_image_url_key FROM \"user\" WHERE id = '{user}'")).await;
        assert_eq!(image.media_key, shown);
    }
}

#[tokio::test]
async fn one_image_linked_sixteen_times_at_once_is_linked_once() {
    let world = World::new().await;
    let database = world.database(|settings| settings.database_pool_size = 16);
    for _ in 0..ROUNDS {
        let held = Arc::new(world.held(world.user, ImagePath::UserProfile).await);
        let links = race(&world, &database, 16, |_, mut connection| {
            let held = Arc::clone(&held);
            async move { profile_images::link(&mut connection, &held.verified()).await.unwrap() }
        })
        .await;
        assert_eq!(links.iter().flatten().count(), 1);
    }
}

#[tokio::test]
async fn links_and_deletions_of_one_profile_at_once_agree_in_the_end() {
    let world = World::new().await;
    let database = world.database(|settings| settings.database_pool_size = 16);
    for _ in 0..ROUNDS {
        let user = world.add_user(Role::User).await;
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(Arc::new(world.held(user, ImagePath::UserProfile).await));
        }
        race(&world, &database, 16, |racer, mut connection| {
            let held = held.get(racer).map(Arc::clone);
            async move {
                match held {
                    Some(held) => profile_images::link(&mut connection, &held.verified()).await.unwrap().is_some(),
                    None => profile_images::delete_live(&mut connection, user).await.unwrap(),
                }
            }
        })
        .await;
        let live = profile_images::find_live(&mut *world.connection().await, user).await.unwrap();
        let shown = world.value(&format!("SELECT profile_image_url_key FROM \"user\" WHERE id = '{user}'")).await;
        assert_eq!(live.and_then(|(_, image)| image.media_key), shown);
    }
}

#[tokio::test]
async fn posters_set_at_once_leave_one_live() {
    let world = World::new().await;
    let database = world.database(|settings| settings.database_pool_size = 8);
    let host = world.add_user(Role::Host).await;
    for _ in 0..ROUNDS {
        let competition = world.competition(host).await;
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(Arc::new(world.held(host, ImagePath::Competition).await));
        }
        let links = race(&world, &database, 8, |racer, mut connection| {
            let held = Arc::clone(&held[racer]);
            async move { poster_images::link(&mut connection, competition, host, &held.verified()).await.unwrap() }
        })
        .await;
        assert_eq!(links.iter().flatten().count(), 8);
        let live = format!("competition_poster_image WHERE competition_id = '{competition}' AND deleted_at IS NULL");
        assert_eq!(world.stand.count(&live).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn one_image_in_two_posts_at_once_goes_to_one_of_them() {
    let world = World::new().await;
    let database = world.database(|settings| settings.database_pool_size = 8);
    for _ in 0..ROUNDS {
        let (one, other) =
            (world.held(world.user, ImagePath::Post).await, world.held(world.user, ImagePath::Post).await);
        let both: Arc<[Held; 2]> = Arc::new([one, other]);
        let user_id = world.user;
        let posts = race(&world, &database, 8, |racer, mut connection| {
            let both = Arc::clone(&both);
            async move {
                let new = NewPost { id: new_post(), user_id, title: "", content: "" };
                let mut verified = [both[0].verified(), both[1].verified()];
                if racer % 2 == 1 {
                    verified.reverse();
                }
                posts::create(&mut connection, &new, &verified).await
            }
        })
        .await;
        let (made, lost): (Vec<_>, Vec<_>) = posts.into_iter().partition(Result::is_ok);
        assert_eq!(made.len(), 1);
        assert!(lost.iter().all(|lost| matches!(lost, Err(CreateError::HoldLost(_)))), "{lost:?}");
    }
}

#[tokio::test]
async fn a_sweep_and_a_claim_never_both_get_an_image() {
    let world = World::new().await;
    let database = world.database(|settings| settings.database_pool_size = 16);
    let user = world.user;
    for _ in 0..ROUNDS {
        let image = world.pending(user, ImagePath::UserProfile).await;
        // With these cutoffs both could take the image. No setting allows that; here only the row decides.
        world.age(image, 4000).await;
        let outcomes = race(&world, &database, 16, |racer, mut connection| async move {
            if racer % 2 == 0 {
                let doomed = images::mark_expired(&mut connection, PENDING_TTL, 500).await.unwrap();
                return (doomed.len(), 0);
            }
            let attempt = new_attempt();
            let claimed = image_attempts::claim_link(&mut connection, image, user, attempt, LEASE, 2 * PENDING_TTL)
                .await
                .unwrap();
            if claimed.is_none() {
                return (0, 0);
            }
            let media_key = upload_domain::media_key(image, attempt);
            let held = Held { image, user, attempt, media_key };
            let linked = profile_images::link(&mut connection, &held.verified()).await.unwrap();
            assert!(linked.is_some(), "what is claimed cannot be swept");
            (0, 1)
        })
        .await;
        let swept: usize = outcomes.iter().map(|(swept, _)| swept).sum();
        let linked: usize = outcomes.iter().map(|(_, linked)| linked).sum();
        assert_eq!(swept + linked, 1, "swept {swept}, linked {linked}");
        let mut connection = world.connection().await;
        let standing = images::standing(&mut connection, image, Some(user), CUTOFF).await.unwrap();
        assert_eq!(matches!(standing, Standing::Linked(..)), linked == 1);
        assert_eq!(images::delete_marked(&mut connection, &[image]).await.unwrap(), swept);
    }
}

#[tokio::test]
async fn eight_sweeps_take_each_row_once() {
    let world = World::new().await;
    let database = world.database(|settings| settings.database_pool_size = 8);
    const ROWS: usize = 400;
    world
        .sql(&format!(
            "INSERT INTO image (id, path, format, user_id, created_at)
             SELECT gen_random_uuid(), 'post', 'image/png', '{}', now() - interval '2 h' FROM generate_series(1, {ROWS})",
            world.user
        ))
        .await;
    let sweeps = race(&world, &database, 8, |_, mut connection| async move {
        let mut taken = Vec::new();
        loop {
            let doomed = images::mark_expired(&mut connection, PENDING_TTL, 7).await.unwrap();
            if doomed.is_empty() {
                return taken;
            }
            let ids: Vec<_> = doomed.iter().map(|doomed| doomed.id).collect();
            assert_eq!(images::delete_marked(&mut connection, &ids).await.unwrap(), ids.len());
            taken.extend(ids);
        }
    })
    .await;
    let taken: Vec<_> = sweeps.into_iter().flatten().collect();
    assert_eq!(taken.len(), ROWS);
    assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), ROWS);
    assert_eq!(world.stand.count("image").await.unwrap(), 0);
}

#[tokio::test]
async fn eight_sweeps_take_each_linked_row_once() {
    let world = World::new().await;
    let database = world.database(|settings| settings.database_pool_size = 8);
    const ROWS: usize = 400;
    world
        .sql(&format!(
            "INSERT INTO image (id, path, format, user_id, linked_at, byte_size, media_byte_size, media_key, width, height)
             SELECT gen_random_uuid(), 'post', 'image/png', '{}', now() - interval '2 h', 1, 1, 'media/x', 1, 1
             FROM generate_series(1, {ROWS})",
            world.user
        ))
        .await;
    let sweeps = race(&world, &database, 8, |_, mut connection| async move {
        let mut taken = Vec::new();
        loop {
            let due = images::take_incoming(&mut connection, FORM_LIFE, 7).await.unwrap();
            let ids: Vec<_> = due.into_iter().map(|image| image.id).collect();
            if ids.is_empty() {
                return taken;
            }
            assert_eq!(images::incoming_emptied(&mut connection, &ids).await.unwrap(), ids.len());
            taken.extend(ids);
        }
    })
    .await;
    let taken: Vec<_> = sweeps.into_iter().flatten().collect();
    assert_eq!(taken.len(), ROWS);
    assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), ROWS);
    assert_eq!(world.stand.count("image WHERE incoming_due_at IS NULL").await.unwrap(), ROWS as u64);
}
