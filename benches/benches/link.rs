//! The statements of a link on a real Postgres: the claim, and the one that links. What the store does in between is not here.
#![expect(clippy::unwrap_used, reason = "a measurement fails by panicking")]

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use upload_domain::{AttemptId, Dimensions, ImageFormat, ImageId, ImagePath, Role, UserId, UserStatus};
use upload_persistence::{
    Connection, Verified, image_attempts,
    images::{self, NewImage},
    profile_images,
};
use upload_sandbox::Sandbox;
use uuid::Uuid;

const IMAGE_BYTES: u64 = 5_000_000;
/// Longer than any iteration.
const LEASE: Duration = Duration::from_secs(3600);
/// So many that no row of one has a long history.
const USERS: usize = 64;

/// How long the two statements took.
#[derive(Default)]
struct Times {
    claim: Duration,
    link: Duration,
}

fn statements(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let sandbox = runtime.block_on(Sandbox::start()).unwrap();
    let stand = runtime.block_on(sandbox.stand());
    let users: Vec<UserId> = runtime.block_on(async {
        let mut users = Vec::new();
        for _user in 0..USERS {
            users.push(stand.add_user(Role::User, UserStatus::Active).await.unwrap());
        }
        users
    });
    let mut connection = runtime.block_on(stand.database.connection()).unwrap();
    let mut times = |iterations: u64| {
        runtime.block_on(async {
            let mut times = Times::default();
            for user in users.iter().cycle().take(usize::try_from(iterations).unwrap()) {
                once(&mut connection, *user, &mut times).await;
            }
            times
        })
    };
    criterion.bench_function("claim an image", |bencher| bencher.iter_custom(|iterations| times(iterations).claim));
    criterion.bench_function("link an image", |bencher| bencher.iter_custom(|iterations| times(iterations).link));
}

/// One image from its row to its link; only the link's own statements are timed.
async fn once(connection: &mut Connection, user: UserId, times: &mut Times) {
    let (image, attempt) = (ImageId::from(Uuid::now_v7()), AttemptId::from(Uuid::new_v4()));
    let new = NewImage {
        id: image,
        user_id: user,
        path: ImagePath::UserProfile,
        format: ImageFormat::Jpeg,
        byte_size: Some(IMAGE_BYTES),
        checksum_sha256: None,
        upload: None,
    };
    images::insert_pending(connection, &new).await.unwrap().unwrap();
    let begun = Instant::now();
    image_attempts::claim_link(connection, image, user, attempt, LEASE, LEASE).await.unwrap().unwrap();
    times.claim += begun.elapsed();
    let media_key = format!("media/{image}/{attempt}");
    let verified = Verified {
        image,
        user,
        attempt,
        media_key: &media_key,
        byte_size: IMAGE_BYTES,
        dimensions: Dimensions { width: 1600, height: 1200 },
    };
    let begun = Instant::now();
    profile_images::link(connection, &verified).await.unwrap().unwrap();
    times.link += begun.elapsed();
}

criterion_group!(benches, statements);
criterion_main!(benches);
