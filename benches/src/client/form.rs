//! The answer to `POST /user/images`. The fields of a form keep their order, which stores rely on.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

/// A created image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    /// The image.
    pub image_entity: ImageEntity,
    /// The form that uploads its file.
    pub presigned_post: Form,
}

/// The part of an image that a client needs.
#[derive(Debug, Deserialize)]
pub struct ImageEntity {
    /// Its id.
    pub id: String,
}

/// A form of either method.
#[derive(Debug, Deserialize)]
pub struct Form {
    /// `POST` or `PUT`.
    pub method: Option<String>,
    /// Its URL.
    pub url: String,
    /// The fields of a POST.
    #[serde(default)]
    pub fields: Pairs,
    /// The headers of a PUT.
    #[serde(default)]
    pub headers: Pairs,
}

/// A JSON object of strings, in its original order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pairs(pub Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Pairs(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_the_order_in_which_they_were_written() -> serde_json::Result<()> {
        let text = r#"{"imageEntity": {"id": "1", "path": "post"}, "presignedPost": {"method": "POST",
            "url": "http://store/bucket", "fields": {"key": "1", "bucket": "2", "Content-Type": "3"}, "expiresAt": ""}}"#;
        let created: Created = serde_json::from_str(text)?;
        let names: Vec<&str> = created.presigned_post.fields.0.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["key", "bucket", "Content-Type"]);
        assert_eq!(created.presigned_post.headers, Pairs::default());
        Ok(())
    }
}
