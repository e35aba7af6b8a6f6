//! What an image is for and how its bytes are encoded.

use crate::{Role, words};

words!(
    /// What an image is for; it decides what the image may be linked to.
    ImagePath {
        /// A user's profile image.
        UserProfile = "user-profile",
        /// A competition's poster.
        Competition = "competition",
        /// One of a post's images.
        Post = "post",
    }
);

words!(
    /// The formats that may be uploaded. There is no SVG: it is a document that can carry scripts.
    ImageFormat {
        /// JPEG, ITU-T T.81.
        Jpeg = "image/jpeg",
        /// PNG, RFC 2083.
        Png = "image/png",
        /// WebP, RFC 9649.
        Webp = "image/webp",
    }
);

impl ImagePath {
    /// The roles that may create an image for this path.
    pub const fn creator_roles(self) -> &'static [Role] {
        match self {
            Self::UserProfile | Self::Post => &[Role::Admin, Role::Host, Role::User],
            Self::Competition => &[Role::Admin, Role::Host],
        }
    }
}
