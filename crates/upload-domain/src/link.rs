//! What may be linked to what.

use uuid::Uuid;

use crate::{CompetitionId, ImagePath, PostId, words};

words!(
    /// The kinds of target, as the view `image_link` spells them.
    LinkKind {
        /// A user's profile.
        Profile = "profile",
        /// A competition's poster.
        Poster = "poster",
        /// A post.
        Post = "post",
    }
);

/// What an image is linked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkTarget {
    /// The caller's own profile.
    Profile,
    /// A competition's poster.
    Poster(CompetitionId),
    /// A post, at the image's place in the list.
    Post(PostId),
}

impl LinkTarget {
    /// The target of this kind and id. A profile needs no id: it is the image owner's own.
    pub fn new(kind: LinkKind, id: Uuid) -> Self {
        match kind {
            LinkKind::Profile => Self::Profile,
            LinkKind::Poster => Self::Poster(id.into()),
            LinkKind::Post => Self::Post(id.into()),
        }
    }

    /// The only path whose images may be linked here.
    pub const fn path(self) -> ImagePath {
        match self {
            Self::Profile => ImagePath::UserProfile,
            Self::Poster(_) => ImagePath::Competition,
            Self::Post(_) => ImagePath::Post,
        }
    }
}
