//! How long `sweep`, `reconcile` and `audit` take for many rows and objects, and how much memory: on a throw-away Postgres, and on the store in
//! memory or the one of `S3_ENDPOINT`.
//!
//!     cargo build --release -p upload-ops
//!     cargo run --release -p upload-ops --example many -- 1000000 100000
//!
//! The first number is that of rows: half of them are expired, the others are linked. The second is how many of the linked ones have an object.
//! One more object of a hundred has no row.
#![expect(clippy::unwrap_used, reason = "a developer's measurement may end by panicking")]

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::{process::Command, time::interval};
use upload_domain::{Role, UserStatus};
use upload_sandbox::{Sandbox, Stand};
use uuid::Uuid;

const PUTS_AT_ONCE: usize = 32;

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<usize>().unwrap());
    let (rows, objects) = (numbers.next().unwrap(), numbers.next().unwrap());
    let stand = Sandbox::shared().await.stand().await;
    fill(&stand, rows, objects).await;
    loop {
        if measure(&stand, &["sweep", "--once"]).await == Some(0) {
            break;
        }
    }
    // Reconcile looks only at objects that are two hours old.
    let later = "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql
             AS 'SELECT pg_catalog.clock_timestamp() + interval ''3 h''';
         DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$";
    stand.sql(later).await.unwrap();
    measure(&stand, &["reconcile"]).await;
    measure(&stand, &["audit"]).await;
}

async fn fill(stand: &Stand, rows: usize, objects: usize) {
    let user = stand.add_user(Role::User, UserStatus::Active).await.unwrap();
    let half = rows / 2;
    let expired = format!(
        "INSERT INTO image (id, user_id, path, format, created_at)
         SELECT gen_random_uuid(), '{user}', 'post', 'image/png', now() - interval '2 h' FROM generate_series(1, {half})"
    );
    let linked = format!(
        "INSERT INTO image (id, user_id, path, format, created_at, linked_at, byte_size, media_byte_size, media_key, width, height)
         SELECT id, '{user}', 'post', 'image/png', now() - interval '2 h', now() - interval '1 h', 5, 5,
             'media/' || id || '/' || gen_random_uuid(), 1, 1
         FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, {half})) AS made"
    );
    for statement in [expired.as_str(), linked.as_str(), "ANALYZE"] {
        stand.sql(statement).await.unwrap();
    }
    let keys = format!("SELECT media_key FROM image WHERE linked_at IS NOT NULL LIMIT {objects}");
    let keys = stand.sql(&keys).await.unwrap().into_iter().map(|row| row[0].clone().unwrap());
    let unnamed = (0..objects / 100).map(|_| format!("media/{}/{}", Uuid::now_v7(), Uuid::now_v7()));
    let keys: Vec<String> = keys.chain(unnamed).collect();
    let started = Instant::now();
    let put = async |key: String| stand.storage.put(&key, "image/png", Bytes::from_static(b"bytes")).await.unwrap();
    let number = keys.len();
    stream::iter(keys).for_each_concurrent(PUTS_AT_ONCE, put).await;
    println!("{half} expired rows, {half} linked rows, {number} objects, put in {} s", started.elapsed().as_secs());
}

/// Runs the program that was built beside this one, and prints the last line of its stdout, its time and its peak memory.
async fn measure(stand: &Stand, arguments: &[&str]) -> Option<i32> {
    let here = std::env::current_exe().unwrap();
    let program = here.parent().and_then(Path::parent).unwrap().join("upload-ops");
    let started = Instant::now();
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(stand.environment())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id().unwrap());
    let mut ended = std::pin::pin!(child.wait_with_output());
    let (mut looks, mut peak) = (interval(Duration::from_millis(20)), String::new());
    let output = loop {
        tokio::select! {
            output = &mut ended => break output.unwrap(),
            _ = looks.tick() => {
                let status = fs::read_to_string(&status).unwrap_or_default();
                let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                peak = line.map_or(peak, |line| line.trim().to_owned());
            }
        }
    };
    let stdout = String::from_utf8_lossy(&output.stdout);
    let seconds = started.elapsed().as_secs_f32();
    println!("{}: {seconds:.1} s, peak {peak}: {}", arguments.join(" "), stdout.lines().last().unwrap_or_default());
    output.status.code()
}
