//! What a history consists of, and the strategy that makes one.
//!
//! A script names users, images, forms and replicas by small numbers, which the history resolves when it comes to a step. So a script
//! stays valid when proptest removes some of its steps. A step that has nothing to act on does nothing.

use proptest::{collection::vec, option, prelude::*};
use upload_domain::{ImageFormat, ImagePath};
use upload_sandbox::samples;

/// The most steps in a history.
const MOST_STEPS: usize = 40;

#[derive(Debug, Clone)]
pub struct Script {
    /// Whether the bucket has versions: half of the replicas then pin by version.
    pub versions: bool,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone)]
pub enum Step {
    /// One request, perhaps with a fault while it runs.
    One { act: Act, at: u8, fault: Option<Fault> },
    /// Two requests at the same time.
    Two { acts: [Act; 2], at: [u8; 2] },
    /// A link or an upload stops before one of its turns to the store. Time passes, and the same request comes to another replica. Then the
    /// first one goes on.
    Overtake { act: Act, at: [u8; 2], after: u8, clock: Clock },
    /// A task of `upload-ops`, perhaps with a fault while it runs.
    Tend { task: Task, fault: Option<Fault> },
    /// A task while a request runs.
    TendWhile { task: Task, act: Act, at: u8 },
    /// Time passes.
    Clock(Clock),
    /// A replica is killed. It starts again when it is needed.
    Kill { at: u8 },
}

/// A request.
#[derive(Debug, Clone)]
pub enum Act {
    Create {
        user: u8,
        path: ImagePath,
        format: ImageFormat,
    },
    /// V1's route that takes the image in one request.
    Stream {
        user: u8,
        path: ImagePath,
        format: ImageFormat,
        file: File,
        cut: Option<u16>,
    },
    Renew {
        image: u8,
        stranger: bool,
    },
    /// With any form that the image ever had. `cut` is where the client goes away: a share of the request's bytes.
    Upload {
        image: u8,
        form: u8,
        file: File,
        cut: Option<u16>,
    },
    Profile {
        image: u8,
        stranger: bool,
    },
    Poster {
        image: u8,
        stranger: bool,
    },
    Post {
        images: Vec<u8>,
        stranger: bool,
    },
    DeleteProfile {
        user: u8,
    },
    DeletePost {
        post: u8,
        stranger: bool,
    },
    Read {
        image: u8,
    },
    Me {
        user: u8,
    },
}

/// What is uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum File {
    /// A valid image. Another number makes another one, and decides its size.
    Good(u8),
    Html,
    /// More pixels than allowed.
    Huge,
    /// A valid image of another format than declared.
    OtherFormat,
}

#[derive(Debug, Clone, Copy)]
pub enum Task {
    Sweep,
    Reconcile,
    Audit,
    Migrate,
}

/// How far the clock goes.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// Past the lease of a link.
    Minutes3,
    /// Past the lease of an upload and the last late write of an attempt, and past a form's life.
    Minutes15,
    /// Past the time for which an image may be pending.
    Hours2,
    /// Past the time for which what nothing shows is kept.
    Days40,
}

#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub link: Link,
    pub kind: Kind,
    /// After so many turns of the program on the link.
    pub after: u8,
}

/// A link of a replica, or of `upload-ops`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Postgres,
    Store,
}

#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// No connection works.
    Refuse,
    /// Nothing that the program sends arrives, for this long, or until it gives up. Then all of it does.
    Stall { ms: u16 },
    /// The next answer does not come: the connection ends.
    LoseAnswer,
    /// The next answer does not come: the connection is reset.
    ResetAnswer,
    /// The connection ends after so many bytes of requests.
    CutRequest { bytes: u32 },
    /// The connection ends after so many bytes of answers.
    CutAnswer { bytes: u32 },
    /// The store answers 503. Postgres is not reached.
    Busy,
    /// The program is killed after so many bytes of requests.
    Kill { bytes: u32 },
}

impl File {
    pub fn bytes(self, format: ImageFormat) -> Vec<u8> {
        let (jpeg, other) = match format {
            ImageFormat::Jpeg => (true, ImageFormat::Png),
            ImageFormat::Png | ImageFormat::Webp => (false, ImageFormat::Jpeg),
        };
        match self {
            // Smaller and larger than what is inspected before the store gets the first byte.
            Self::Good(seed) if jpeg => {
                samples::jpeg_of_exactly([300, 5_000, 70_000, 300_000][usize::from(seed % 4)], seed.into())
            }
            Self::Good(seed) => samples::png([8, 64, 340][usize::from(seed % 3)], 300, seed.into()),
            Self::Html => samples::HTML.to_vec(),
            Self::Huge if jpeg => samples::jpeg(12_001, 8),
            Self::Huge => samples::pixel_bomb(),
            Self::OtherFormat => samples::of_format(other, 1),
        }
    }

    /// Why it is refused; `None` for a good one.
    pub fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Good(_) => None,
            Self::Html | Self::OtherFormat => Some("content_mismatch"),
            Self::Huge => Some("image_too_large"),
        }
    }
}

impl Clock {
    pub fn seconds(self) -> i64 {
        match self {
            Self::Minutes3 => 3 * 60,
            Self::Minutes15 => 15 * 60,
            Self::Hours2 => 2 * 60 * 60,
            Self::Days40 => 40 * 24 * 60 * 60,
        }
    }
}

pub fn scripts() -> impl Strategy<Value = Script> {
    (any::<bool>(), vec(step(), 1..=MOST_STEPS)).prop_map(|(versions, steps)| Script { versions, steps })
}

fn step() -> BoxedStrategy<Step> {
    prop_oneof![
        // Every history needs images first, and most of them uploaded.
        14 => (making(), any::<u8>(), option::weighted(0.15, fault())).prop_map(|(act, at, fault)| Step::One { act, at, fault }),
        16 => (using(), any::<u8>(), option::weighted(0.35, fault())).prop_map(|(act, at, fault)| Step::One { act, at, fault }),
        6 => ([using(), using()], any::<[u8; 2]>()).prop_map(|(acts, at)| Step::Two { acts, at }),
        3 => (overtaken(), any::<[u8; 2]>(), 0..5_u8, prop_oneof![Just(Clock::Minutes3), Just(Clock::Minutes15)])
            .prop_map(|(act, at, after, clock)| Step::Overtake { act, at, after, clock }),
        3 => (task(), option::weighted(0.4, fault())).prop_map(|(task, fault)| Step::Tend { task, fault }),
        3 => (task(), using(), any::<u8>()).prop_map(|(task, act, at)| Step::TendWhile { task, act, at }),
        3 => clock().prop_map(Step::Clock),
        1 => any::<u8>().prop_map(|at| Step::Kill { at }),
    ]
    .boxed()
}

/// Brings images and files.
fn making() -> BoxedStrategy<Act> {
    prop_oneof![
        4 => (any::<u8>(), path(), format()).prop_map(|(user, path, format)| Act::Create { user, path, format }),
        5 => (recent(), any::<u8>(), file(), cut()).prop_map(|(image, form, file, cut)| Act::Upload { image, form, file, cut }),
        3 => (any::<u8>(), path(), format(), file(), cut())
            .prop_map(|(user, path, format, file, cut)| Act::Stream { user, path, format, file, cut }),
        1 => (recent(), stranger()).prop_map(|(image, stranger)| Act::Renew { image, stranger }),
    ]
    .boxed()
}

/// Works with images and files.
fn using() -> BoxedStrategy<Act> {
    prop_oneof![
        6 => (recent(), stranger()).prop_map(|(image, stranger)| Act::Profile { image, stranger }),
        3 => (vec(recent(), 0..=3), stranger()).prop_map(|(images, stranger)| Act::Post { images, stranger }),
        2 => (recent(), stranger()).prop_map(|(image, stranger)| Act::Poster { image, stranger }),
        4 => (recent(), any::<u8>(), file(), cut()).prop_map(|(image, form, file, cut)| Act::Upload { image, form, file, cut }),
        1 => any::<u8>().prop_map(|user| Act::DeleteProfile { user }),
        1 => (any::<u8>(), stranger()).prop_map(|(post, stranger)| Act::DeletePost { post, stranger }),
        2 => recent().prop_map(|image| Act::Read { image }),
        1 => any::<u8>().prop_map(|user| Act::Me { user }),
        1 => making(),
    ]
    .boxed()
}

/// Holds images while it asks the store.
fn overtaken() -> BoxedStrategy<Act> {
    prop_oneof![
        3 => recent().prop_map(|image| Act::Profile { image, stranger: false }),
        2 => vec(recent(), 1..=3).prop_map(|images| Act::Post { images, stranger: false }),
        2 => (recent(), any::<u8>(), file()).prop_map(|(image, form, file)| Act::Upload { image, form, file, cut: None }),
    ]
    .boxed()
}

/// An image, counted from the newest.
fn recent() -> impl Strategy<Value = u8> {
    prop_oneof![5 => Just(0), 3 => Just(1), 2 => 2..4_u8, 1 => any::<u8>()]
}

fn stranger() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.08)
}

fn path() -> impl Strategy<Value = ImagePath> {
    prop_oneof![3 => Just(ImagePath::UserProfile), 3 => Just(ImagePath::Post), 2 => Just(ImagePath::Competition)]
}

fn format() -> impl Strategy<Value = ImageFormat> {
    prop_oneof![Just(ImageFormat::Png), Just(ImageFormat::Jpeg)]
}

fn file() -> impl Strategy<Value = File> {
    prop_oneof![12 => (0..12_u8).prop_map(File::Good), 1 => Just(File::Html), 1 => Just(File::Huge), 1 => Just(File::OtherFormat)]
}

fn cut() -> impl Strategy<Value = Option<u16>> {
    option::weighted(0.12, prop_oneof![3 => any::<u16>(), 1 => 65_000..=u16::MAX])
}

fn task() -> impl Strategy<Value = Task> {
    prop_oneof![3 => Just(Task::Sweep), 2 => Just(Task::Reconcile), 1 => Just(Task::Audit)]
}

fn clock() -> impl Strategy<Value = Clock> {
    prop_oneof![4 => Just(Clock::Minutes3), 4 => Just(Clock::Minutes15), 3 => Just(Clock::Hours2), 1 => Just(Clock::Days40)]
}

fn fault() -> BoxedStrategy<Fault> {
    let kind = prop_oneof![
        2 => Just(Kind::Refuse),
        3 => prop_oneof![6 => 5..150_u16, 1 => 1_200..2_500_u16].prop_map(|ms| Kind::Stall { ms }),
        3 => Just(Kind::LoseAnswer),
        2 => Just(Kind::ResetAnswer),
        4 => bytes().prop_map(|bytes| Kind::CutRequest { bytes }),
        3 => bytes().prop_map(|bytes| Kind::CutAnswer { bytes }),
        2 => Just(Kind::Busy),
        4 => bytes().prop_map(|bytes| Kind::Kill { bytes }),
    ];
    let link = prop_oneof![Just(Link::Postgres), Just(Link::Store)];
    (link, kind, turns()).prop_map(|(link, kind, after)| Fault { link, kind, after }).boxed()
}

/// A link takes about three turns to the database and four to the store, most other requests one. A task takes more.
fn turns() -> impl Strategy<Value = u8> {
    prop_oneof![6 => Just(0), 4 => Just(1), 3 => 2..4_u8, 1 => 4..16_u8]
}

/// As soon as the turn begins, within its message, within the next few, or within a large file.
fn bytes() -> impl Strategy<Value = u32> {
    prop_oneof![3 => Just(0), 4 => 0..300_u32, 2 => 300..2_500_u32, 1 => 2_500..310_000_u32]
}
