//! The sandbox's raw client, whose answers are recorded as those of every other client, and forms written by hand.

use anyhow::{Context as _, Result};
use serde_json::Value;
use upload_sandbox::{client::Answer, raw};
use url::Url;

pub(super) use upload_sandbox::raw::{Then, authority, chunked, read_answer, request};

use super::hearing;

/// A boundary as curl writes it.
pub(super) const BOUNDARY: &str = "------------------------d74496d66958873e";

/// The headers of a form of this many bytes.
pub(super) fn form_headers(content_length: usize) -> [(&'static str, String); 2] {
    [
        ("Content-Type", format!("multipart/form-data; boundary={BOUNDARY}")),
        ("Content-Length", content_length.to_string()),
    ]
}

/// Posts a form that was written by hand.
pub(super) async fn post_form(url: &str, body: &[u8], more_headers: &[(&str, &str)]) -> Result<Option<Answer>> {
    let headers = form_headers(body.len());
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (*name, value.as_str())).chain(more_headers.iter().copied()).collect();
    exchange(url, request("POST", url, &headers, body)?, Then::Wait).await
}

/// Writes bytes to the server of a URL and reads the first answer; `None` if the server closes without one.
pub(super) async fn exchange(url: &str, bytes: Vec<u8>, then: Then) -> Result<Option<Answer>> {
    let answer = raw::exchange(url, &bytes, then).await?;
    if let Some(answer) = &answer {
        hearing::note_bytes(&bytes, &Url::parse(url)?, answer);
    }
    Ok(answer)
}

/// A `multipart/form-data` body that the test builds up.
#[derive(Debug, Clone, Default)]
pub(super) struct FormBody {
    bytes: Vec<u8>,
}

impl FormBody {
    /// With all fields of a form that a server gave out.
    pub(super) fn of(form: &Value) -> Result<Self> {
        let fields = form["fields"].as_object().with_context(|| format!("a form has fields: {form}"))?;
        let fields = fields.iter().filter_map(|(name, value)| Some((name, value.as_str()?)));
        Ok(fields.fold(Self::default(), |body, (name, value)| body.field(name, value)))
    }

    /// Adds a field.
    pub(super) fn field(self, name: &str, value: &str) -> Self {
        self.part(format!("Content-Disposition: form-data; name=\"{name}\"").as_bytes(), value.as_bytes())
    }

    /// Adds the file, as a PNG under a harmless name.
    pub(super) fn file(self, content: &[u8]) -> Self {
        self.named_file(b"a.png", content)
    }

    /// Adds the file under a name of any bytes.
    pub(super) fn named_file(self, name: &[u8], content: &[u8]) -> Self {
        let disposition = b"Content-Disposition: form-data; name=\"file\"; filename=\"".as_slice();
        self.part(&[disposition, name, b"\"\r\nContent-Type: image/png"].concat(), content)
    }

    /// Adds a part with these header lines.
    pub(super) fn part(mut self, headers: &[u8], content: &[u8]) -> Self {
        let delimiter = format!("--{BOUNDARY}\r\n");
        for bytes in [delimiter.as_bytes(), headers, b"\r\n\r\n", content, b"\r\n"] {
            self.bytes.extend_from_slice(bytes);
        }
        self
    }

    /// The whole body.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        self.bytes
    }

    /// The body so far, without an end.
    pub(super) fn unfinished(self) -> Vec<u8> {
        self.bytes
    }
}
