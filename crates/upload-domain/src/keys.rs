//! Object keys. The server makes them and never uses one twice; no file name of a client is ever part of one.

use crate::{AttemptId, ImageId};

/// Where a client's form may write.
pub const INCOMING_PREFIX: &str = "incoming/";
/// Where only the server may write; what is served lives here.
pub const MEDIA_PREFIX: &str = "media/";

/// The key that a client's form writes: `incoming/<image id>`.
pub fn incoming_key(image: ImageId) -> String {
    format!("{INCOMING_PREFIX}{image}")
}

/// The server-only key of one attempt: `media/<image id>/<attempt>`.
pub fn media_key(image: ImageId, attempt: AttemptId) -> String {
    format!("{MEDIA_PREFIX}{image}/{attempt}")
}

/// The image that an incoming key belongs to, or `None` if the key is not exactly one that [`incoming_key`] makes.
pub fn incoming_key_image(key: &str) -> Option<ImageId> {
    let image = key.strip_prefix(INCOMING_PREFIX)?.parse().ok()?;
    (incoming_key(image) == key).then_some(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn an_incoming_key_names_its_image_and_nothing_else_does() {
        let image = ImageId::from(Uuid::from_u128(7));
        assert_eq!(incoming_key_image(&incoming_key(image)), Some(image));
        for other in [
            "incoming/",
            "incoming/x",
            "media/00000000-0000-0000-0000-000000000007",
            "incoming/00000000000000000000000000000007",
            "incoming/../00000000-0000-0000-0000-000000000007",
        ] {
            assert_eq!(incoming_key_image(other), None, "{other}");
        }
    }
}
