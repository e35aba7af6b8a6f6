//! The fault matrix: each fault of each link, from three places in each operation. `faults.txt` has the answers, and each cell leaves what a
//! history must leave.
//!
//! The servers have the limits on time that they have by default, because a cell shows how long a client waits.
//!
//! A place is a share of the bytes that the operation moves over the link when all is well: from the first byte on, from the middle, or from
//! the last byte. A line of `faults.txt` has all answers of its three places. Some operations do not use the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    future::pending,
    time::Duration,
};

use anyhow::{Result, ensure};
use tokio::time::sleep;
use upload_domain::{INCOMING_PREFIX, ImageFormat, ImagePath};
use upload_sandbox::{
    Stand,
    relay::{Mode, Passed, Relay},
};

use crate::{
    aftermath,
    history::History,
    script::{Act, File, Link, Step},
    tally::Tally,
    world::{Strategy, World},
};

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/histories/faults.txt");
/// A file that V1 sends on while it comes.
const LARGE: File = File::Good(3);
/// All operations have a world with one replica.
const AT: u8 = 0;

/// What a link does from a place on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It refuses connections, and ends those that are open.
    Refuse,
    /// It holds what the program sends for half a second.
    Delay,
    /// It holds what the program sends until the program gives up.
    Stall,
    /// It holds what the other side answers until the program gives up.
    Mute,
    /// It ends the connection in place of the next answer.
    End,
    /// It resets the connection in place of the next answer.
    Reset,
    /// It ends the connection within an answer.
    CutAnswer,
    /// The other side does not want to work: the store answers 503, and Postgres ends its sessions.
    Unavailable,
}

const FAULTS: [Fault; 8] = [
    Fault::Refuse,
    Fault::Delay,
    Fault::Stall,
    Fault::Mute,
    Fault::End,
    Fault::Reset,
    Fault::CutAnswer,
    Fault::Unavailable,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    First,
    Middle,
    Last,
}

/// What is done while the link has the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Create,
    RenewForm,
    UploadInOneRequest,
    UploadByTicket,
    LinkByCopy,
    LinkByVersion,
    PostOfTwo,
    Read,
}

const OPERATIONS: [Operation; 8] = [
    Operation::Create,
    Operation::RenewForm,
    Operation::UploadInOneRequest,
    Operation::UploadByTicket,
    Operation::LinkByCopy,
    Operation::LinkByVersion,
    Operation::PostOfTwo,
    Operation::Read,
];

/// The answers by operation, link and fault.
type Answers = BTreeMap<String, BTreeSet<String>>;

/// All cells of the operations of one worker. `all` places, or only the middle.
pub async fn run(all: bool, share: usize, shares: usize) -> Result<Tally> {
    let places: &[Place] = if all { &[Place::First, Place::Middle, Place::Last] } else { &[Place::Middle] };
    let mut tally = Tally::default();
    let mut answers = Answers::new();
    let mut failures = Vec::new();
    for operation in OPERATIONS.into_iter().skip(share).step_by(shares) {
        let mut world = operation.world().await?;
        for link in [Link::Postgres, Link::Store] {
            for fault in FAULTS {
                for place in places {
                    let cell = format!("{operation:?}, {link:?}, {fault:?}");
                    match operation.cell(&mut world, link, fault, *place, &mut tally).await {
                        Ok(answer) => drop(answers.entry(cell).or_default().insert(answer)),
                        Err(error) => {
                            failures.push(format!("{cell}, {place:?}: {error:#}"));
                            world = operation.world().await?;
                        }
                    }
                }
            }
        }
    }
    if let Err(error) = compare(&answers) {
        failures.push(format!("{error:#}"));
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
    Ok(tally)
}

/// Compares the answers with `faults.txt`. The lines that it prints can be added there.
fn compare(answers: &Answers) -> Result<()> {
    let known: Answers = fs::read_to_string(TABLE)?
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(cell, answers)| (cell.to_owned(), answers.split(" or ").map(str::to_owned).collect()))
        .collect();
    let mut new = Vec::new();
    for (cell, answers) in answers {
        for answer in answers {
            if !known.get(cell).is_some_and(|known| known.contains(answer)) {
                new.push(format!("{cell}: {answer}"));
            }
        }
    }
    ensure!(new.is_empty(), "faults.txt does not have these answers:\n{}", new.join("\n"));
    Ok(())
}

impl Operation {
    async fn world(self) -> Result<World> {
        let (versions, strategy, pin) = match self {
            Self::UploadInOneRequest | Self::UploadByTicket => (false, Strategy::Streaming, "copy"),
            Self::LinkByVersion => (true, Strategy::Presigned, "version"),
            _ => (false, Strategy::Presigned, "copy"),
        };
        World::of_one(versions, strategy, pin).await
    }

    /// What must be there before.
    fn before(self) -> Vec<Act> {
        let create = |path| Act::Create { user: 0, path, format: ImageFormat::Jpeg };
        let upload = || Act::Upload { image: 0, form: 0, file: File::Good(0), cut: None };
        match self {
            Self::Create | Self::UploadInOneRequest => vec![],
            Self::RenewForm | Self::UploadByTicket => vec![create(ImagePath::UserProfile)],
            Self::LinkByCopy | Self::LinkByVersion => vec![create(ImagePath::UserProfile), upload()],
            Self::PostOfTwo => vec![create(ImagePath::Post), upload(), create(ImagePath::Post), upload()],
            Self::Read => vec![create(ImagePath::UserProfile), upload(), Self::link()],
        }
    }

    fn uses(self, link: Link) -> bool {
        link == Link::Postgres || !matches!(self, Self::Create | Self::RenewForm | Self::Read)
    }

    fn link() -> Act {
        Act::Profile { image: 0, stranger: false }
    }

    fn act(self) -> Act {
        let (user, path, format) = (0, ImagePath::UserProfile, ImageFormat::Jpeg);
        match self {
            Self::Create => Act::Create { user, path, format },
            Self::RenewForm => Act::Renew { image: 0, stranger: false },
            Self::UploadInOneRequest => Act::Stream { user, path, format, file: LARGE, cut: None },
            Self::UploadByTicket => Act::Upload { image: 0, form: 0, file: LARGE, cut: None },
            Self::LinkByCopy | Self::LinkByVersion => Self::link(),
            Self::PostOfTwo => Act::Post { images: vec![0, 1], stranger: false },
            Self::Read => Act::Read { image: 0 },
        }
    }

    async fn cell(
        self,
        world: &mut World,
        link: Link,
        fault: Fault,
        place: Place,
        tally: &mut Tally,
    ) -> Result<String> {
        let mut history = History::begin(world, tally).await?;
        let mut outcome = self.play(&mut history, link, fault, place).await;
        if outcome.is_ok()
            && let Err(error) = aftermath::check(&mut history).await
        {
            outcome = Err(error);
        }
        outcome.map_err(|error| history.report(&error))
    }

    async fn play(self, history: &mut History<'_>, link: Link, fault: Fault, place: Place) -> Result<String> {
        let passed = |history: &History<'_>| history.world.replicas[usize::from(AT)].links().of(link).passed();
        // The first time it prepares its statements. The second time shows what it moves.
        let mut moved = Passed::default();
        for _ in 0..2 {
            let before = self.prepare(history).await.map(|()| passed(history))?;
            history.step(&Step::One { act: self.act(), at: AT, fault: None }).await?;
            moved = passed(history).since(before);
        }
        self.prepare(history).await?;
        let from = |bytes: u64| match place {
            Place::First => 0,
            Place::Middle => bytes / 2,
            Place::Last => bytes.saturating_sub(1),
        };
        let breaks = async |relay: &Relay, stand: &Stand| fault.bite(relay, stand, link, moved, from).await;
        let (answer, bit) = history.broken(&self.act(), AT, link, breaks).await?;
        // The last byte may belong to what is done after the answer.
        ensure!(bit || !self.uses(link) || place == Place::Last, "the fault met no traffic");
        Ok(answer)
    }

    async fn prepare(self, history: &mut History<'_>) -> Result<()> {
        for act in self.before() {
            history.step(&Step::One { act, at: AT, fault: None }).await?;
        }
        // After a link by copy, the server deletes the upload without its client.
        let stand = &history.world.stand;
        let kept = stand.count("image WHERE linked_at IS NULL OR media_version IS NOT NULL").await?;
        while stand.storage.list(INCOMING_PREFIX).await?.len() as u64 > kept {}
        Ok(())
    }
}

impl Fault {
    /// Breaks the link from this place on, and heals it if the fault ends by itself. Otherwise the caller heals it.
    async fn bite(
        self,
        relay: &Relay,
        stand: &Stand,
        link: Link,
        moved: Passed,
        from: impl Fn(u64) -> u64,
    ) -> Result<()> {
        const DELAY: Duration = Duration::from_millis(500);
        const SESSIONS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let place = from(moved.requested_bytes);
        match self {
            Self::Refuse => relay.set_after(place, Mode::Down),
            Self::Stall => relay.set_after(place, Mode::HoldRequests),
            Self::Mute => relay.set_after(place, Mode::HoldAnswers),
            Self::End => relay.set_after(place, Mode::BreakNextAnswer),
            Self::Reset => relay.set_after(place, Mode::ResetNextAnswer),
            Self::CutAnswer => relay.set(Mode::CutAnswersAfter(from(moved.answered_bytes))),
            Self::Unavailable if link == Link::Store => relay.set_after(place, Mode::Unavailable),
            Self::Delay => {
                relay.hold_after(place, Mode::HoldRequests).await;
                sleep(DELAY).await;
                relay.set(Mode::Pass);
            }
            Self::Unavailable => {
                relay.hold_after(place, Mode::HoldRequests).await;
                stand.sql(SESSIONS).await?;
                relay.set(Mode::Pass);
            }
        }
        pending().await
    }
}
