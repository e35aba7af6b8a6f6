//! `kill -9` at fourteen points. Each is reached exactly: a relay holds the request or the answer that comes next, the database shows that
//! the point is reached, and only then is the program killed. What it sent and was not passed on is lost with it.
//!
//! A crash is a short history. The model does not know what became of the request, and the end of every history checks what is left.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use upload_domain::{AttemptId, INCOMING_PREFIX, ImageFormat, ImageId, ImagePath, MEDIA_PREFIX, media_key};
use upload_sandbox::{Row, Stand, relay::Mode, samples};
use uuid::Uuid;

use crate::{
    aftermath,
    history::History,
    script::{Act, Clock, File, Step, Task},
    tally::Tally,
    world::{Links, World},
};

/// Only a copy has this header.
const COPY: &str = "x-amz-copy-source-if-match";
/// How the removal of many objects begins, in the query of its URL.
const DELETE_OBJECTS: &str = "?delete";
/// How the removal of one object begins.
const DELETE: &str = "DELETE /";
/// Replicas, as a step chooses them.
const STREAMING: u8 = 0;
const COPYING: u8 = 2;
const PINNING: u8 = 3;
/// Larger than what V1 inspects before the store gets the first byte.
const LARGE: File = File::Good(3);
/// Objects that no row names.
const ORPHANS: usize = 5;
const AN_UPLOAD_HOLDS: &str = "image WHERE attempt_kind = 'upload' AND media_key IS NULL";
const A_LINK_HOLDS: &str = "image WHERE attempt_kind = 'link' AND linked_at IS NULL";

/// Where the program is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// V1 has written its intent, and the store has nothing.
    Intent,
    /// The store has a part of the file.
    MidStream,
    /// The store has all but the last byte.
    LastByte,
    /// The store has the file, and the database does not know.
    AfterPut,
    /// The database knows, and the client has no answer.
    AfterUploadCommit,
    /// The commit was refused, and the file is about to be deleted.
    Compensation,
    /// A link holds the image.
    AfterClaim,
    /// The store has answered with the image's first bytes.
    AfterRead,
    /// The copy is made.
    AfterCopy,
    /// The image is linked, and the client has no answer.
    AfterLinkCommit,
    /// The sweep has marked the row, and the store has the object.
    AfterTombstone,
    /// The object is gone, and the row is there.
    AfterStoreDelete,
    /// Reconcile has found orphans, and removes them.
    MidReconcile,
    /// Some migrations are applied.
    MidMigration,
}

pub const POINTS: [Point; 14] = [
    Point::Intent,
    Point::MidStream,
    Point::LastByte,
    Point::AfterPut,
    Point::AfterUploadCommit,
    Point::Compensation,
    Point::AfterClaim,
    Point::AfterRead,
    Point::AfterCopy,
    Point::AfterLinkCommit,
    Point::AfterTombstone,
    Point::AfterStoreDelete,
    Point::MidReconcile,
    Point::MidMigration,
];

/// One worker's share of the rounds. Every other round has a bucket with versions.
pub async fn run(rounds: u64, share: u64, shares: u64) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut worlds = [None, None];
    for round in (0..rounds).skip(usize::try_from(share)?).step_by(usize::try_from(shares)?) {
        let versions = round % 2 == 1;
        let world = &mut worlds[usize::from(versions)];
        for point in POINTS {
            let world = match world {
                Some(world) => world,
                None => world.insert(World::start(versions).await?),
            };
            crash(world, point, round, &mut tally).await?;
        }
    }
    Ok(tally)
}

/// Kills a program at this point, and checks what is left. Another round has another place in the file, or in the migrations.
async fn crash(world: &mut World, point: Point, round: u64, tally: &mut Tally) -> Result<()> {
    if point == Point::MidMigration {
        return mid_migration(round).await.with_context(|| format!("{point:?}, round {round}"));
    }
    let mut history = History::begin(world, tally).await?;
    let mut outcome = point.play(&mut history, round).await;
    if outcome.is_ok() {
        outcome = aftermath::check(&mut history).await;
    }
    outcome.map_err(|error| history.report(&error)).with_context(|| format!("{point:?}, round {round}"))
}

impl Point {
    async fn play(self, history: &mut History<'_>, round: u64) -> Result<()> {
        match self {
            Self::Intent
            | Self::MidStream
            | Self::LastByte
            | Self::AfterPut
            | Self::AfterUploadCommit
            | Self::Compensation => self.in_an_upload(history, round).await,
            Self::AfterClaim | Self::AfterRead | Self::AfterCopy | Self::AfterLinkCommit => {
                self.in_a_link(history).await
            }
            Self::AfterTombstone | Self::AfterStoreDelete | Self::MidReconcile | Self::MidMigration => {
                self.in_a_task(history).await
            }
        }
    }

    async fn in_an_upload(self, history: &mut History<'_>, round: u64) -> Result<()> {
        let path = ImagePath::UserProfile;
        let upload = Act::Stream { user: 0, path, format: ImageFormat::Jpeg, file: LARGE, cut: None };
        // The first upload prepares the statements, so that the first answer to the next one is its result. It also shows what the store gets.
        let passed = |history: &History<'_>| history.world.replicas[usize::from(STREAMING)].links().store.passed();
        let before = passed(history);
        history.step(&Step::One { act: upload.clone(), at: STREAMING, fault: None }).await?;
        let sent = passed(history).since(before).requested_bytes;
        let reach = async |links: &Links, stand: &Stand| {
            match self {
                Self::Intent => links.store.hold(Mode::HoldRequests).await,
                Self::MidStream => links.store.hold_after(place(sent, round), Mode::HoldRequests).await,
                Self::LastByte => links.store.hold_after(sent - 1, Mode::HoldRequests).await,
                _ => links.store.hold(Mode::HoldAnswers).await,
            }
            match self {
                Self::AfterUploadCommit => {
                    hold_commit(links).await;
                    return expect(stand, "image WHERE attempt IS NULL AND media_key IS NOT NULL", 2).await;
                }
                Self::Compensation => {
                    stand
                        .sql("UPDATE image SET attempt_until = now() - interval '1 h' WHERE attempt IS NOT NULL")
                        .await?;
                    links.store.hold(Mode::HoldRequestsWith(DELETE)).await;
                    return expect(stand, "image WHERE attempt IS NULL AND media_key IS NULL", 1).await;
                }
                _ => {}
            }
            expect(stand, AN_UPLOAD_HOLDS, 1).await?;
            let stored = stand.storage.list(MEDIA_PREFIX).await?.len();
            let expected = 1 + usize::from(self == Self::AfterPut);
            ensure!(stored == expected, "the store has {stored} objects, not {expected}");
            Ok(())
        };
        history.crash(&upload, STREAMING, reach).await
    }

    async fn in_a_link(self, history: &mut History<'_>) -> Result<()> {
        // Only a copy is written.
        let pins = history.world.versions && self != Self::AfterCopy;
        let at = if pins { PINNING } else { COPYING };
        let path = ImagePath::UserProfile;
        let link = Act::Profile { image: 0, stranger: false };
        // The first link prepares the statements.
        for last in [false, true] {
            let create = Act::Create { user: 0, path, format: ImageFormat::Png };
            let upload = Act::Upload { image: 0, form: 0, file: File::Good(0), cut: None };
            history.step(&Step::One { act: create, at, fault: None }).await?;
            history.step(&Step::One { act: upload, at, fault: None }).await?;
            if !last {
                history.step(&Step::One { act: link.clone(), at, fault: None }).await?;
            }
        }
        let media = history.world.stand.storage.list(MEDIA_PREFIX).await?.len();
        let reach = async |links: &Links, stand: &Stand| {
            match self {
                Self::AfterClaim => links.store.hold(Mode::HoldRequests).await,
                Self::AfterCopy => links.store.hold(Mode::HoldAnswersTo(COPY)).await,
                Self::AfterLinkCommit => {
                    // The last request to the store is a read, of the version or of the copy.
                    let before_the_last = if pins { 0 } else { 2 };
                    links.store.hold_after_requests(before_the_last, Mode::HoldAnswers).await;
                    hold_commit(links).await;
                    return expect(stand, "image WHERE linked_at IS NOT NULL", 2).await;
                }
                _ => links.store.hold(Mode::HoldAnswers).await,
            }
            expect(stand, A_LINK_HOLDS, 1).await?;
            let stored = stand.storage.list(MEDIA_PREFIX).await?.len();
            let expected = media + usize::from(self == Self::AfterCopy);
            ensure!(stored == expected, "the store has {stored} copies, not {expected}");
            Ok(())
        };
        history.crash(&link, at, reach).await
    }

    async fn in_a_task(self, history: &mut History<'_>) -> Result<()> {
        let create = Act::Create { user: 0, path: ImagePath::Post, format: ImageFormat::Png };
        let upload = Act::Upload { image: 0, form: 0, file: File::Good(0), cut: None };
        for act in [create, upload] {
            history.step(&Step::One { act, at: COPYING, fault: None }).await?;
        }
        if self == Self::MidReconcile {
            let storage = &history.world.stand.storage;
            for _ in 0..ORPHANS {
                let key = media_key(ImageId::from(Uuid::now_v7()), AttemptId::from(Uuid::new_v4()));
                storage.put(&key, "image/png", Bytes::from(samples::png(8, 8, 1))).await?;
            }
            let hold = async |links: &Links, stand: &Stand| {
                links.store.hold(Mode::HoldRequestsWith(DELETE_OBJECTS)).await;
                let left = stand.storage.list(MEDIA_PREFIX).await?.len();
                ensure!(left == ORPHANS, "{left} orphans are left, not {ORPHANS}");
                Ok(())
            };
            history.world.crash(Task::Reconcile, hold).await?;
            // Orphans like these, which nothing here makes, are for reconcile alone. The sweep need not find them.
            return history.step(&Step::Tend { task: Task::Reconcile, fault: None }).await;
        }
        history.step(&Step::Clock(Clock::Hours2)).await?;
        let hold = async |links: &Links, stand: &Stand| {
            let (mode, objects) = match self {
                Self::AfterTombstone => (Mode::HoldRequestsWith(DELETE_OBJECTS), 1),
                _ => (Mode::HoldAnswersTo(DELETE_OBJECTS), 0),
            };
            links.store.hold(mode).await;
            expect(stand, "image WHERE deleting_at IS NOT NULL", 1).await?;
            let left = stand.storage.list(INCOMING_PREFIX).await?.len();
            ensure!(left == objects, "the store has {left} objects, not {objects}");
            Ok(())
        };
        history.world.crash(Task::Sweep, hold).await
    }
}

/// Migrates an empty database, is killed at another turn in each round, and migrates again. The schema must be the same as without a kill.
async fn mid_migration(round: u64) -> Result<()> {
    const EMPTY: &str = "DROP SCHEMA public CASCADE; CREATE SCHEMA public";
    let world = World::without_replicas().await?;
    world.stand.sql(EMPTY).await?;
    let before = world.ops_links().postgres.passed();
    world.tend(Task::Migrate, None).await?;
    let turn = place(world.ops_links().postgres.passed().since(before).requests, round);
    let wanted = schema(&world.stand).await?;
    world.stand.sql(EMPTY).await?;
    let hold = async |links: &Links, _stand: &Stand| {
        links.postgres.hold_after_requests(turn, Mode::HoldRequests).await;
        Ok(())
    };
    world.crash(Task::Migrate, hold).await?;
    world.tend(Task::Migrate, None).await?;
    let found = schema(&world.stand).await?;
    ensure!(found == wanted, "killed before turn {turn}, the schema is {found:?}, not {wanted:?}");
    Ok(())
}

/// A place in so much of something, another one in each round.
fn place(all: u64, round: u64) -> u64 {
    const PLACES: u64 = 50;
    // A step that has no divisor with the number of places comes to all of them.
    all * (1 + (round * 17 + 16) % PLACES) / (PLACES + 2)
}

/// Lets the store's answer through, and holds the next one of the database, which is the commit's.
async fn hold_commit(links: &Links) {
    links.postgres.set(Mode::HoldAnswers);
    links.store.set(Mode::Pass);
    links.postgres.holds(1).await;
}

/// Every column, index, constraint and function, and whether the index can be used.
async fn schema(stand: &Stand) -> Result<Vec<Row>> {
    let all = "SELECT 'column', table_name::text, column_name::text, data_type || is_nullable || coalesce(column_default, '')
         FROM information_schema.columns WHERE table_schema = 'public'
         UNION ALL SELECT 'index', indrelid::regclass::text, indexrelid::regclass::text, pg_get_indexdef(indexrelid) || indisvalid
         FROM pg_index JOIN pg_class ON pg_class.oid = indrelid WHERE relnamespace = 'public'::regnamespace
         UNION ALL SELECT 'constraint', conrelid::regclass::text, conname::text, pg_get_constraintdef(oid) || convalidated
         FROM pg_constraint WHERE connamespace = 'public'::regnamespace
         UNION ALL SELECT 'function', '', proname::text, md5(prosrc) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
         ORDER BY 1, 2, 3, 4";
    stand.sql(all).await
}

/// That the point is reached, and not another one.
async fn expect(stand: &Stand, from: &str, rows: u64) -> Result<()> {
    let found = stand.count(from).await?;
    ensure!(found == rows, "{found} rows, not {rows}, are in {from}");
    Ok(())
}
