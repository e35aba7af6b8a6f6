//! What the servers may answer, and what must be true afterwards.
//!
//! The model is a set of states: all that agree with every answer so far. One request in one state has one answer, or a few where time is
//! at a limit. An answer that no state allows is a violation. After a lost reply the set has both states: the request was carried out, or it
//! was not. So "unknown" exists only after a lost reply, and the next answer that tells the two apart ends it.
//!
//! Two requests at the same time are carried out one after the other, in either order. One of them may find the image in the other's hands.
//! A request without a reply may be carried out later, so the history waits until nothing of it is under way. Then it either was, or never
//! will be.

use std::collections::{BTreeMap, BTreeSet};

use upload_domain::ImagePath;

use crate::script::File;

/// A little earlier than the age at which an image can no longer be linked: the real clock goes on, too.
const SURELY_YOUNG_SECONDS: i64 = 57 * 60;
/// A little later than the age at which a sweep may remove a pending image.
const SURELY_OLD_SECONDS: i64 = 61 * 60;
/// A little earlier than the age at which a sweep removes what nothing shows.
const PERHAPS_PURGED_SECONDS: i64 = 29 * 24 * 60 * 60;
/// A little longer than a link and an upload may hold an image.
const LINK_SECONDS: i64 = 60;
const UPLOAD_SECONDS: i64 = 10 * 60;

/// With more states than this the model allows nearly everything.
const MOST_STATES: usize = 5_000;

/// A user: 0 hosts the competition, 1 is an ordinary member.
pub type User = usize;

/// All that the servers are expected to know.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct State {
    pub images: Vec<Image>,
    /// The posts that were made, and whether they are shown.
    posts: BTreeMap<usize, (User, bool)>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Image {
    owner: User,
    path: Path,
    created_at: i64,
    /// What V1 has verified and stored.
    media: Option<File>,
    /// What is under the incoming key.
    incoming: Option<File>,
    refused: Option<&'static str>,
    pub link: Option<Linked>,
    /// An attempt that may hold it until this time.
    hold: Option<(Hold, i64)>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Linked {
    pub target: Target,
    pub file: File,
    pub ended_at: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Profile(User),
    /// Of the one competition.
    Poster,
    Post(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Path {
    Profile,
    Competition,
    Post,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    Link,
    Upload,
}

/// A request, in the model's words.
#[derive(Debug, Clone)]
pub enum Call {
    Create {
        user: User,
        path: ImagePath,
    },
    Stream {
        user: User,
        path: ImagePath,
        file: File,
    },
    Renew {
        user: User,
        image: usize,
    },
    /// Through V1, with a ticket.
    UploadToServer {
        image: usize,
        file: File,
    },
    /// Straight to the store.
    UploadToStore {
        image: usize,
        file: File,
    },
    /// The images are in the order of their ids, in which they are claimed.
    Link {
        user: User,
        images: Vec<usize>,
        target: Target,
    },
    DeleteProfile {
        user: User,
    },
    DeletePost {
        user: User,
        post: usize,
    },
    Read {
        image: usize,
    },
    Me {
        user: User,
    },
}

/// An answer, as far as the model predicts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// 0 for none.
    pub status: u16,
    pub code: String,
    pub fact: Fact,
}

/// What an answer says about the images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    Nothing,
    /// The file that is served; `None` if it is none that was ever uploaded.
    Serves(Option<File>),
    /// The profile image.
    Shows(Option<usize>),
}

/// What may have gone wrong on the way to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Nothing,
    /// The server may answer that the store failed. The database works, so nothing is linked or stored then, and everything is released.
    Store,
    /// Another request has perhaps taken its images meanwhile. Then it does nothing.
    Overtaken,
    /// The server may answer that the database failed. What it did before that is unknown.
    Database,
    /// The server may answer that either failed.
    Slow,
    /// The server may also not answer.
    Vanishes,
}

/// A request and its answer.
#[derive(Debug, Clone)]
pub struct Heard {
    pub call: Call,
    pub said: Said,
    pub trouble: Trouble,
}

#[derive(Debug, Default)]
pub struct Model {
    pub states: BTreeSet<State>,
    now: i64,
}

impl From<ImagePath> for Path {
    fn from(path: ImagePath) -> Self {
        match path {
            ImagePath::UserProfile => Self::Profile,
            ImagePath::Competition => Self::Competition,
            ImagePath::Post => Self::Post,
        }
    }
}

impl Linked {
    /// Whether a sweep may have removed it by now.
    pub fn may_be_purged(&self, now: i64) -> bool {
        self.ended_at.is_some_and(|ended_at| now - ended_at > PERHAPS_PURGED_SECONDS)
    }
}

impl Target {
    fn path(self) -> Path {
        match self {
            Self::Profile(_) => Path::Profile,
            Self::Poster => Path::Competition,
            Self::Post(_) => Path::Post,
        }
    }
}

impl Hold {
    fn code(self) -> &'static str {
        match self {
            Self::Link => "link_in_progress",
            Self::Upload => "upload_in_progress",
        }
    }
}

impl Call {
    /// The images that it may hold, with the kind of the hold and its longest time.
    pub fn holds(&self) -> (&[usize], Hold, i64) {
        match self {
            Self::Link { images, .. } => (images, Hold::Link, LINK_SECONDS),
            Self::UploadToServer { image, .. } => (std::slice::from_ref(image), Hold::Upload, UPLOAD_SECONDS),
            _ => (&[], Hold::Link, 0),
        }
    }

    /// Whether the server may ask the store.
    pub fn asks_the_store(&self) -> bool {
        matches!(self, Self::Stream { .. } | Self::UploadToServer { .. } | Self::Link { .. })
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Stream { .. } => "stream",
            Self::Renew { .. } => "renew form",
            Self::UploadToServer { .. } => "upload to server",
            Self::UploadToStore { .. } => "upload to store",
            Self::Link { target: Target::Profile(_), .. } => "link profile",
            Self::Link { target: Target::Poster, .. } => "link poster",
            Self::Link { target: Target::Post(_), .. } => "create post",
            Self::DeleteProfile { .. } => "delete profile",
            Self::DeletePost { .. } => "delete post",
            Self::Read { .. } => "read",
            Self::Me { .. } => "me",
        }
    }
}

impl Said {
    pub fn nothing() -> Self {
        Self::new(0, "", Fact::Nothing)
    }

    pub fn new(status: u16, code: &str, fact: Fact) -> Self {
        Self { status, code: code.to_owned(), fact }
    }

    fn ok(status: u16) -> Self {
        Self::new(status, "", Fact::Nothing)
    }

    fn refused(status: u16, code: &str) -> Self {
        Self::new(status, code, Fact::Nothing)
    }

    fn is_busy(&self) -> bool {
        self.status == 409 && matches!(self.code.as_str(), "link_in_progress" | "upload_in_progress" | "upload_changed")
    }

    /// Whether the server says that something failed.
    pub fn is_failure(&self) -> bool {
        self.is_failure_of_store() || self.is_failure_of_database()
    }

    /// Whether the server says that the image is not the request's own any more.
    fn is_loss(&self) -> bool {
        // Whoever links an image deletes what the form wrote.
        matches!(self.code.as_str(), "already_linked" | "not_uploaded" | "upload_timeout")
    }

    fn is_failure_of_store(&self) -> bool {
        self.status == 503 && matches!(self.code.as_str(), "overloaded" | "storage_timeout" | "storage_unavailable")
    }

    fn is_failure_of_database(&self) -> bool {
        self.status == 503 && matches!(self.code.as_str(), "overloaded" | "database_unavailable")
    }
}

impl Trouble {
    /// Whether it is a reason for this answer, in place of those that the request would have without it.
    pub fn explains(self, said: &Said) -> bool {
        match self {
            Self::Nothing => false,
            Self::Store => said.is_failure_of_store(),
            Self::Overtaken => said.is_failure_of_store() || said.is_busy() || said.is_loss(),
            Self::Database => said.is_failure_of_database() || said.is_busy(),
            Self::Slow => said.is_failure() || said.is_busy(),
            Self::Vanishes => said.is_failure() || said.is_busy() || said.status == 0,
        }
    }
}

impl Model {
    pub fn new() -> Self {
        Self { states: BTreeSet::from([State::default()]), now: 0 }
    }

    /// The seconds that have passed.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// An image that a server has answered with. `media` is its file, if that came with it.
    pub fn add_image(&mut self, owner: User, path: ImagePath, media: Option<File>) {
        let (path, created_at) = (path.into(), self.now);
        let image = Image { owner, path, created_at, media, incoming: None, refused: None, link: None, hold: None };
        self.states = std::mem::take(&mut self.states)
            .into_iter()
            .map(|mut state| {
                state.images.push(image.clone());
                state
            })
            .collect();
    }

    /// Time passes.
    pub fn pass(&mut self, seconds: i64) {
        self.now += seconds;
    }

    /// Keeps the states that allow these answers to requests that ran at the same time. Without any, the answers are a violation, and the
    /// model stays as it was.
    pub fn hear(&mut self, heard: &[Heard]) -> Result<(), String> {
        let together = heard.len() > 1;
        let mut orders = vec![heard.iter().collect::<Vec<_>>()];
        if together {
            orders.push(heard.iter().rev().collect());
        }
        let mut next = BTreeSet::new();
        for order in orders {
            let mut states = self.states.clone();
            for heard in order {
                states = states.iter().flat_map(|state| state.after(heard, together, self.now)).collect();
            }
            next.extend(states);
        }
        if next.is_empty() {
            let said: Vec<_> = heard.iter().map(|heard| format!("{:?} -> {:?}", heard.call, heard.said)).collect();
            let states: Vec<_> = self.states.iter().take(4).collect();
            return Err(format!(
                "no state of the model allows this: {}\n{} states at second {}, the first ones: {states:#?}",
                said.join(" and "),
                self.states.len(),
                self.now
            ));
        }
        if next.len() > MOST_STATES {
            return Err(format!("{} states: the model has lost track", next.len()));
        }
        self.states = next;
        Ok(())
    }

    /// Whether these images can still be linked for so many seconds.
    pub fn are_young_for(&self, seconds: i64, images: &[usize]) -> bool {
        let is_young = |image: &usize| {
            self.states.iter().all(|state| self.now + seconds - state.images[*image].created_at < SURELY_YOUNG_SECONDS)
        };
        images.iter().all(is_young)
    }

    /// Whether a sweep may have emptied the incoming key of this image for good: it is old, or was linked.
    pub fn may_be_swept(&self, image: usize) -> bool {
        let may_be = |image: &Image| image.link.is_some() || self.now - image.created_at > SURELY_YOUNG_SECONDS;
        self.states.iter().any(|state| may_be(&state.images[image]))
    }

    /// Whether this image perhaps waits for its link.
    pub fn may_be_linked(&self, image: usize) -> bool {
        let has_file = |image: &Image| image.media.or(image.incoming).is_some_and(|file| file.refusal().is_none());
        let may_be = |image: &Image| {
            image.link.is_none() && has_file(image) && self.now - image.created_at < SURELY_YOUNG_SECONDS
        };
        self.states.iter().any(|state| may_be(&state.images[image]))
    }

    /// Keeps the states in which this is true.
    pub fn keep(&mut self, what: &str, is_true: impl Fn(&State) -> bool) -> Result<(), String> {
        let kept: BTreeSet<State> = self.states.iter().filter(|state| is_true(state)).cloned().collect();
        if kept.is_empty() {
            let states: Vec<_> = self.states.iter().take(4).collect();
            return Err(format!("no state of the model allows {what}: {} states: {states:#?}", self.states.len()));
        }
        self.states = kept;
        Ok(())
    }
}

impl State {
    fn after(&self, heard: &Heard, together: bool, now: i64) -> Vec<Self> {
        let Heard { call, said, trouble, .. } = heard;
        let outcomes = self.outcomes(call, now);
        let expected = outcomes.iter().filter(|(expected, _state)| expected == said).map(|(_said, state)| state);
        let (images, ..) = call.holds();
        let mut after: Vec<Self> = match trouble {
            Trouble::Nothing => expected.cloned().collect(),
            Trouble::Store | Trouble::Overtaken => {
                expected.flat_map(|state| self.halfway(state, call, false, now)).collect()
            }
            // What a refusal leaves to do may have failed.
            _ => expected.flat_map(|state| self.halfway(state, call, said.status >= 400, now)).collect(),
        };
        if together && said.is_busy() && !images.is_empty() {
            after.push(self.clone());
        }
        if !trouble.explains(said) {
            return after;
        }
        match (trouble, call) {
            // The store never keeps a part of a body.
            (_, Call::UploadToStore { .. }) => after.push(self.clone()),
            (Trouble::Store | Trouble::Overtaken, _) => {
                after.push(self.clone());
                // One image may have been refused before another one failed.
                if images.len() > 1 {
                    let refused = outcomes.iter().filter(|(said, _state)| said.status == 422);
                    after.extend(refused.flat_map(|(_said, state)| self.halfway(state, call, false, now)));
                }
            }
            _ => {
                let either = outcomes.iter().map(|(_said, state)| state).chain([self]);
                after.extend(either.flat_map(|state| self.halfway(state, call, true, now)));
            }
        }
        after
    }

    /// The state after a request, and those after a request that refused some of its images and not the others. If it `may_hold`, its images
    /// may still be held.
    fn halfway(&self, after: &Self, call: &Call, may_hold: bool, now: i64) -> Vec<Self> {
        let mut states = vec![after.clone()];
        let (images, kind, seconds) = call.holds();
        for image in images.iter().copied() {
            if images.len() > 1 && after.images[image].refused != self.images[image].refused {
                let without: Vec<Self> = states.iter().map(|state| state.with(image, &self.images[image])).collect();
                states.extend(without);
            }
        }
        // What another kind of request holds, it goes on to hold.
        let other = |(hold, until): &(Hold, i64)| *hold != kind && *until > now;
        let held = |state: &&Self| images.iter().any(|image| state.images[*image].hold.as_ref().is_some_and(other));
        let kept: Vec<Self> = states.iter().filter(held).cloned().collect();
        for state in states.iter_mut().filter(|_state| may_hold) {
            for image in images {
                let image = &mut state.images[*image];
                if image.link.is_none() {
                    image.hold = Some((kind, now + seconds));
                }
            }
        }
        states.extend(kept);
        states
    }

    /// The answers to the request, each with the state after it.
    fn outcomes(&self, call: &Call, now: i64) -> Vec<(Said, Self)> {
        match call {
            Call::Create { user, path } | Call::Stream { user, path, .. }
                if *path == ImagePath::Competition && *user != 0 =>
            {
                self.unchanged(Said::refused(403, "forbidden"))
            }
            Call::Create { .. } => self.unchanged(Said::ok(201)),
            Call::Stream { file, .. } => match file.refusal() {
                None => self.unchanged(Said::ok(201)),
                Some(code) => self.unchanged(Said::refused(422, code)),
            },
            Call::Renew { user, image } => self.renew(*user, *image, now),
            Call::UploadToServer { image, file } => self.upload_to_server(*image, *file, now),
            Call::UploadToStore { image, file } => {
                let mut next = self.clone();
                next.images[*image].incoming = Some(*file);
                vec![(Said::ok(201), next)]
            }
            Call::Link { user, images, target } => self.link(*user, images, *target, now),
            Call::DeleteProfile { user } => {
                let mut next = self.clone();
                next.end(Target::Profile(*user), now);
                vec![(Said::ok(204), next)]
            }
            Call::DeletePost { user, post } => {
                if self.posts.get(post) != Some(&(*user, true)) {
                    return self.unchanged(Said::refused(404, "post_not_found"));
                }
                let mut next = self.clone();
                next.posts.insert(*post, (*user, false));
                next.end(Target::Post(*post), now);
                vec![(Said::ok(204), next)]
            }
            Call::Read { image } => self.unchanged(match &self.images[*image].link {
                Some(Linked { file, ended_at: None, .. }) => Said::new(302, "", Fact::Serves(Some(*file))),
                _ => Said::refused(404, "image_not_found"),
            }),
            Call::Me { user } => {
                let shown = self.images.iter().position(|image| {
                    image
                        .link
                        .as_ref()
                        .is_some_and(|link| link.target == Target::Profile(*user) && link.ended_at.is_none())
                });
                self.unchanged(Said::new(200, "", Fact::Shows(shown)))
            }
        }
    }

    fn unchanged(&self, said: Said) -> Vec<(Said, Self)> {
        vec![(said, self.clone())]
    }

    fn renew(&self, user: User, image: usize, now: i64) -> Vec<(Said, Self)> {
        let found = &self.images[image];
        if found.owner != user {
            return self.unchanged(Said::refused(404, "image_not_found"));
        }
        let mut said = found.unavailable(now);
        // An attempt is no obstacle. It is only named in place of another one.
        if said.iter().all(|said| said.is_busy()) {
            said = vec![];
        }
        if found.may_be_available(now) {
            said.push(Said::ok(201));
        }
        said.into_iter().map(|said| (said, self.clone())).collect()
    }

    fn upload_to_server(&self, image: usize, file: File, now: i64) -> Vec<(Said, Self)> {
        let found = &self.images[image];
        let mut outcomes: Vec<_> = found.unavailable(now).into_iter().map(|said| (said, self.clone())).collect();
        if found.may_be_available(now) {
            let mut next = self.clone();
            next.images[image].hold = None;
            match file.refusal() {
                None => {
                    next.images[image].media = Some(file);
                    outcomes.push((Said::ok(201), next));
                }
                Some(code) => {
                    next.images[image].refused = Some(code);
                    outcomes.push((Said::refused(422, code), next));
                }
            }
        }
        outcomes
    }

    fn link(&self, user: User, images: &[usize], target: Target, now: i64) -> Vec<(Said, Self)> {
        if target == Target::Poster && user != 0 {
            return self.unchanged(Said::refused(403, "forbidden"));
        }
        let mut outcomes = Vec::new();
        for image in images.iter().map(|image| &self.images[*image]) {
            if image.owner != user {
                outcomes.extend(self.unchanged(Said::refused(404, "image_not_found")));
                return outcomes;
            }
            if let Some(link) = &image.link
                && link.target == target
                && link.ended_at.is_none()
            {
                outcomes.extend(self.unchanged(Said::ok(200)));
                return outcomes;
            }
            outcomes.extend(image.unavailable(now).into_iter().map(|said| (said, self.clone())));
            if !image.may_be_available(now) {
                return outcomes;
            }
            if image.path != target.path() {
                outcomes.extend(self.unchanged(Said::refused(422, "wrong_path")));
                return outcomes;
            }
        }
        // From here on the images are held.
        let mut next = self.clone();
        let mut refused = None;
        for image in images {
            let image = &mut next.images[*image];
            image.hold = None;
            let refusal = match (image.media, image.incoming) {
                (Some(_), _) => None,
                (None, None) => Some(Said::refused(409, "not_uploaded")),
                (None, Some(file)) => file.refusal().map(|code| {
                    image.refused = Some(code);
                    image.incoming = None;
                    Said::refused(422, code)
                }),
            };
            refused = refused.or(refusal);
        }
        if let Some(said) = refused {
            outcomes.push((said, next));
            return outcomes;
        }
        match target {
            Target::Post(post) => drop(next.posts.insert(post, (user, true))),
            Target::Profile(_) | Target::Poster => next.end(target, now),
        }
        for image in images {
            let image = &mut next.images[*image];
            image.link = image.media.or(image.incoming).map(|file| Linked { target, file, ended_at: None });
        }
        outcomes.push((Said::ok(201), next));
        outcomes
    }

    /// Ends what is linked here.
    fn end(&mut self, target: Target, now: i64) {
        for link in self.images.iter_mut().filter_map(|image| image.link.as_mut()) {
            if link.target == target && link.ended_at.is_none() {
                link.ended_at = Some(now);
            }
        }
    }

    fn with(&self, place: usize, image: &Image) -> Self {
        let mut state = self.clone();
        state.images[place] = image.clone();
        state
    }
}

impl Image {
    /// Why a claim may fail.
    fn unavailable(&self, now: i64) -> Vec<Said> {
        let mut said = Vec::new();
        if let Some(link) = &self.link {
            said.push(Said::refused(409, "already_linked"));
            if link.may_be_purged(now) {
                said.push(Said::refused(404, "image_not_found"));
            }
            return said;
        }
        if let Some((kind, until)) = self.hold
            && until > now
        {
            said.push(Said::refused(409, kind.code()));
        }
        if now - self.created_at > SURELY_YOUNG_SECONDS {
            said.push(Said::refused(410, "image_expired"));
            // A sweep may have removed it.
            said.push(Said::refused(404, "image_not_found"));
        }
        if let Some(code) = self.refused
            && now - self.created_at < SURELY_OLD_SECONDS
        {
            said.push(Said::refused(422, code));
        }
        said
    }

    fn may_be_available(&self, now: i64) -> bool {
        self.link.is_none() && self.refused.is_none() && now - self.created_at < SURELY_OLD_SECONDS
    }
}
