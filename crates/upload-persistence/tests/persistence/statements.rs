//! A statement costs one round trip, once it has been prepared.

use std::sync::{Arc, Mutex};

use diesel::connection::InstrumentationEvent;
use diesel_async::AsyncConnection;
use upload_domain::{ImagePath, Role};
use upload_persistence::{
    Connection,
    image_attempts::{self, Left},
    images, migrations, poster_images,
    posts::{self, NewPost},
    profile_images,
    quotas::Quota,
};

use crate::world::{CUTOFF, FORM_LIFE, Held, LEASE, PENDING_TTL, World, finished, new_attempt, new_image, new_post};

/// The statements that ran on a connection, and how many were prepared and cached.
#[derive(Default, Clone)]
struct Log(Arc<Mutex<(Vec<String>, usize)>>);

impl Log {
    fn watch(connection: &mut Connection) -> Self {
        let log = Self::default();
        let events = log.clone();
        connection.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            let mut log = events.0.lock().unwrap();
            match event {
                InstrumentationEvent::StartQuery { query, .. } => log.0.push(query.to_string()),
                InstrumentationEvent::CacheQuery { .. } => log.1 += 1,
                _ => {}
            }
        });
        log
    }

    fn take(&self) -> (Vec<String>, usize) {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Runs it twice. The second run must be one statement, which the first run has prepared and cached.
macro_rules! assert_one_round_trip {
    ($log:expr, $name:literal, $run:expr) => {
        $run;
        let (_, prepared) = $log.take();
        assert_eq!(prepared, 1, "{} is prepared to be kept", $name);
        $run;
        let (ran, prepared) = $log.take();
        assert_eq!((ran.len(), prepared), (1, 0), "{}: {ran:?}", $name);
    };
}

#[tokio::test]
async fn the_statements_of_an_upload_and_of_a_link_are_one_round_trip_each() {
    let world = World::new().await;
    let host = world.add_user(Role::Host).await;
    let competition = world.competition(host).await;
    let mut connection = world.connection().await;
    let log = Log::watch(&mut connection);
    let user = host;
    let mut held = Vec::new();
    for path in [ImagePath::UserProfile, ImagePath::Competition, ImagePath::Post] {
        held.push([world.held(user, path).await, world.held(user, path).await].into_iter());
    }
    let [profiles, posters, posted] = held.as_mut_slice() else { unreachable!() };
    let new = new_image(user, ImagePath::Post);
    let (image, attempt) = (world.pending(user, ImagePath::Post).await, new_attempt());

    assert_one_round_trip!(log, "insert_pending", {
        let new = images::NewImage { id: uuid::Uuid::now_v7().into(), ..new };
        images::insert_pending(&mut connection, &new, &Quota::UNLIMITED).await.unwrap().unwrap()
    });
    assert_one_round_trip!(log, "find_pending", {
        images::find_pending(&mut connection, image, user, CUTOFF).await.unwrap().unwrap()
    });
    assert_one_round_trip!(log, "claim_link", {
        image_attempts::claim_link(&mut connection, image, user, attempt, LEASE, CUTOFF).await.unwrap()
    });
    assert_one_round_trip!(
        log,
        "release",
        image_attempts::release(&mut connection, image, attempt, Left::Nothing).await.unwrap()
    );
    // The same statement.
    image_attempts::claim_upload(&mut connection, image, attempt, LEASE, CUTOFF).await.unwrap().unwrap();
    assert_eq!(log.take().1, 0);
    assert_one_round_trip!(log, "finish_upload", {
        image_attempts::finish_upload(&mut connection, &finished(image, attempt, "media/x")).await.unwrap()
    });
    assert_one_round_trip!(log, "refuse", {
        image_attempts::refuse(&mut connection, image, attempt, upload_domain::Refusal::EmptyFile, Left::Nothing)
            .await
            .unwrap()
    });
    assert_one_round_trip!(log, "standing", {
        images::standing(&mut connection, image, Some(user), CUTOFF).await.unwrap()
    });
    assert_one_round_trip!(log, "find_served", images::find_served(&mut connection, image).await.unwrap());
    assert_one_round_trip!(log, "mark_expired", {
        images::mark_expired(&mut connection, PENDING_TTL, 500).await.unwrap()
    });
    assert_one_round_trip!(log, "delete_marked", {
        images::delete_marked(&mut connection, &[image, uuid::Uuid::now_v7().into()]).await.unwrap()
    });
    assert_one_round_trip!(log, "take_abandoned", {
        image_attempts::take_abandoned(&mut connection, 500).await.unwrap()
    });
    assert_one_round_trip!(log, "forget", {
        image_attempts::forget(&mut connection, &[attempt.uuid(), uuid::Uuid::now_v7()]).await.unwrap()
    });
    assert_one_round_trip!(log, "take_incoming", {
        images::take_incoming(&mut connection, FORM_LIFE, 500).await.unwrap()
    });
    assert_one_round_trip!(log, "incoming_emptied", {
        images::incoming_emptied(&mut connection, &[image, uuid::Uuid::now_v7().into()]).await.unwrap()
    });
    assert_one_round_trip!(log, "profile_images::link", {
        let held: Held = profiles.next().unwrap();
        profile_images::link(&mut connection, &held.verified()).await.unwrap().unwrap()
    });
    assert_one_round_trip!(log, "delete_live", profile_images::delete_live(&mut connection, user).await.unwrap());
    assert_one_round_trip!(log, "may_link", {
        poster_images::may_link(&mut connection, competition, user).await.unwrap()
    });
    assert_one_round_trip!(log, "poster_images::link", {
        let held: Held = posters.next().unwrap();
        poster_images::link(&mut connection, competition, user, &held.verified()).await.unwrap().unwrap()
    });
    assert_one_round_trip!(log, "posts::create", {
        let held: Held = posted.next().unwrap();
        let new = NewPost { id: new_post(), user_id: user, title: "", content: "" };
        posts::create(&mut connection, &new, &[held.verified()]).await.unwrap()
    });
}

#[tokio::test]
async fn the_schemas_standing_and_the_clock_are_one_round_trip_each() {
    let world = World::new().await;
    let database = world.database(|settings| settings.database_pool_size = 1);
    let log = Log::watch(&mut database.connection().await.unwrap());
    assert_one_round_trip!(log, "now", database.now().await.unwrap());
    assert_one_round_trip!(log, "migrations::standing", migrations::standing(&database).await.unwrap());
}
