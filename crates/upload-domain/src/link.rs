//! What may be linked to what.

use crate::{CompetitionId, ImagePath, PostId};

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
    /// The only path whose images may be linked here.
    pub const fn path(self) -> ImagePath {
        match self {
            Self::Profile => ImagePath::UserProfile,
            Self::Poster(_) => ImagePath::Competition,
            Self::Post(_) => ImagePath::Post,
        }
    }
}
