//! Identifiers, one type each, so that an image's id is never taken for a user's.

use uuid::Uuid;

macro_rules! id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// The bare UUID, as SQL stores it.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id!(
    /// An image: a row and, once uploaded, an object. Version 7, so that ids sort by time.
    ImageId
);
id!(
    /// One try to bring verified bytes to a media key; the hold on an image's row carries it.
    AttemptId
);
id!(
    /// A user, the owner of images.
    UserId
);
id!(
    /// A competition, which may have a poster.
    CompetitionId
);
id!(
    /// A post, which may have images.
    PostId
);
