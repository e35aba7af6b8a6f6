//! The form that a client uploads with. Both servers answer in the same shape; the strategy decides the content.

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};
use upload_persistence::images::Image;
use utoipa::ToSchema;

use crate::{ApiError, Code};

/// How a form is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum FormMethod {
    /// `multipart/form-data`: the fields, then the file.
    #[serde(rename = "POST")]
    Post,
    /// The file alone, with the headers.
    #[serde(rename = "PUT")]
    Put,
}

impl FormMethod {
    /// The method's name in HTTP.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

/// A form: where to send the file, with which fields, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PresignedForm {
    /// The HTTP method.
    pub method: FormMethod,
    /// The URL to send it to.
    pub url: String,
    /// The fields or headers to send with the file.
    #[serde(flatten)]
    pub parts: FormParts,
    /// When it stops working.
    pub expires_at: DateTime<Utc>,
}

/// What a client sends with its file. The JSON object keeps the order, because some stores want `bucket` and `key` early.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum FormParts {
    /// Of a POST: fields that come before the file.
    #[serde(serialize_with = "in_order")]
    Fields(Vec<(String, String)>),
    /// Of a PUT: headers, exactly these.
    #[serde(serialize_with = "in_order")]
    Headers(Vec<(String, String)>),
}

/// What a strategy does for a client that wants to upload.
pub trait IssueForm: Send + Sync {
    /// The methods that forms can have, the usual one first. For a PUT the image's exact length is known.
    fn methods(&self) -> &'static [FormMethod] {
        &[FormMethod::Post]
    }

    /// The errors of signing, for the OpenAPI document.
    fn failures(&self) -> &'static [Code] {
        &[]
    }

    /// Signs a form with this method for a pending image. It expires at `expires_at` or earlier.
    fn issue<'a>(
        &'a self,
        image: &'a Image,
        method: FormMethod,
        now: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    ) -> BoxFuture<'a, Result<PresignedForm, ApiError>>;
}

fn in_order<S: Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(pairs.len()))?;
    for (name, value) in pairs {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_keeps_the_order_of_its_fields() {
        let pairs = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), "v".to_owned())).collect();
        let form = PresignedForm {
            method: FormMethod::Post,
            url: "https://store.example.org/bucket".to_owned(),
            parts: FormParts::Fields(pairs(&["key", "bucket", "Content-Type"])),
            expires_at: DateTime::UNIX_EPOCH,
        };
        assert_eq!(
            serde_json::to_string(&form).ok().as_deref(),
            Some(
                r#"{"method":"POST","url":"https://store.example.org/bucket","fields":{"key":"v","bucket":"v","Content-Type":"v"},"expiresAt":"1970-01-01T00:00:00Z"}"#
            )
        );
        let form =
            PresignedForm { method: FormMethod::Put, parts: FormParts::Headers(pairs(&["content-type"])), ..form };
        let json = serde_json::to_value(&form).unwrap_or_default();
        assert_eq!(json["headers"]["content-type"], "v");
    }
}
