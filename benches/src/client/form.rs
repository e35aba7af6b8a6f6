//! The answer to `POST /user/images`, read in the order in which it was written: stores want a form's fields as they came,
//! and a JSON object in memory may sort them.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

/// What a created image comes with.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    /// The image.
    pub image_entity: ImageEntity,
    /// How its file is uploaded.
    pub presigned_post: Form,
}

/// As much of an image as a client needs.
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
    /// Where to.
    pub url: String,
    /// Fields of a POST.
    #[serde(default)]
    pub fields: Pairs,
    /// Headers of a PUT.
    #[serde(default)]
    pub headers: Pairs,
}

/// A JSON object of texts in the order of its text.
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
        formatter.write_str("an object of texts")
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
