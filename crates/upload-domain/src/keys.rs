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

/// The image and the attempt that a media key belongs to, or `None` if the key is not exactly one that [`media_key`] makes.
pub fn media_key_parts(key: &str) -> Option<(ImageId, AttemptId)> {
    let (image, attempt) = key.strip_prefix(MEDIA_PREFIX)?.split_once('/')?;
    let (image, attempt) = (image.parse().ok()?, attempt.parse().ok()?);
    (media_key(image, attempt) == key).then_some((image, attempt))
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

    #[test]
    fn a_media_key_names_its_image_and_its_attempt_and_nothing_else_does() {
        let (image, attempt) = (ImageId::from(Uuid::from_u128(7)), AttemptId::from(Uuid::from_u128(8)));
        assert_eq!(media_key_parts(&media_key(image, attempt)), Some((image, attempt)));
        let incoming = incoming_key(image);
        for other in ["media/", "media/x/y", "media/00000000-0000-0000-0000-000000000007", &incoming] {
            assert_eq!(media_key_parts(other), None, "{other}");
        }
    }
}
