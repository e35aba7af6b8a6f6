//! The address that clients use: whether it leads to the same bucket, and which web pages may use it.

use std::time::Duration;

use upload_domain::ImageFormat;

use super::{
    Examination, Shown,
    forms::{FILE, not_signed, now, post_file, put_file, request, told},
};
use crate::{Signer, StorageError, UploadMethod, answer::Answered, chain, plain::Plain};

/// How long the read URL of the question works.
const READ_TTL: Duration = Duration::from_secs(60);
/// What a page sends with a file, besides what every page may send: in the order of a preflight, which is that of the alphabet.
const HEADERS: [&str; 2] = ["content-type", "x-amz-checksum-sha256"];
/// An origin that nobody has (RFC 2606).
const FOREIGN: &str = "https://foreign.invalid";

impl Examination {
    /// Whether what the server's key has written under `media/` can be read at the public address, with the signature of a read or, where
    /// media is public, without one. A proxy that changes `Host` breaks it.
    pub async fn public_read(&self) -> Shown {
        let key = self.fresh_media();
        if let Err(error) = self.storage.put(&key, ImageFormat::Png.as_str(), FILE.into()).await {
            return Shown::Unknown(format!("the server's key cannot write an image ({})", chain(&error)));
        }
        let asked = async {
            let read = self.storage.read_url(&key, None, READ_TTL).await?;
            let answered = Plain::empty("GET", read.url).send(&self.storage).await?;
            Ok(match answered.code() {
                _ if answered.is_success() && answered.body == FILE => Shown::Yes,
                _ if answered.is_success() => Shown::No("a read there brings another file".to_owned()),
                Some("SignatureDoesNotMatch") => Shown::No(
                    "the store refuses the signature of a read there: a proxy must pass on `Host` and the path unchanged"
                        .to_owned(),
                ),
                _ => Shown::No(format!("a read there is answered {}", answered.words())),
            })
        };
        asked.await.unwrap_or_else(|error: StorageError| Shown::No(format!("it cannot be reached ({})", chain(&error))))
    }

    /// Whether a form that is sent to the public address arrives in this bucket, as a client sends it. `None` without a signer.
    pub async fn public_upload(&self, method: UploadMethod) -> Option<Shown> {
        let signer = self.public_signer.as_ref()?;
        let asked = async {
            let (file, key) = self.file(signer, method).await?;
            let answered = file.send(&self.storage).await?;
            Ok(match self.content(&key).await? {
                Some(_stored) => Shown::Yes,
                None if answered.is_success() => Shown::No("a form there stores its file somewhere else".to_owned()),
                None => Shown::No(format!("a form there is answered {}", answered.words())),
            })
        };
        Some(asked.await.unwrap_or_else(|error: StorageError| Shown::No(chain(&error))))
    }

    /// Whether a page of this origin may send a form to the public address and read the answer's ETag: a preflight, and then a form with
    /// `Origin`. `None` without a signer: V1's clients send nothing to the store.
    pub async fn cors(&self, method: UploadMethod, origin: &str) -> Option<Shown> {
        let signer = self.public_signer.as_ref()?;
        let asked = async {
            let (file, _key) = self.file(signer, method).await?;
            let preflight = self.preflight(&file, origin).await?;
            if !preflight.is_success() || !preflight.lists("access-control-allow-origin", origin) {
                return Ok(Shown::No(format!("the preflight is answered {}, without this origin", preflight.words())));
            }
            if !preflight.lists("access-control-allow-methods", file.method) {
                return Ok(Shown::No(format!("the preflight does not allow {}", file.method)));
            }
            if let Some(header) = HEADERS.iter().find(|name| !preflight.lists("access-control-allow-headers", name)) {
                return Ok(Shown::No(format!("the preflight does not allow the header {header}")));
            }
            let answered = file.with("origin", origin).send(&self.storage).await?;
            Ok(if !answered.lists("access-control-allow-origin", origin) {
                Shown::No("a page may send a form, but not read the answer".to_owned())
            } else if !answered.lists("access-control-expose-headers", "etag") {
                Shown::No("a page may not read the answer's ETag".to_owned())
            } else {
                Shown::Yes
            })
        };
        Some(told(asked.await))
    }

    /// Whether the store refuses the preflight of a page that nobody has allowed. `None` without a signer.
    pub async fn cors_foreign(&self, method: UploadMethod) -> Option<Shown> {
        let signer = self.public_signer.as_ref()?;
        let asked = async {
            let (file, _key) = self.file(signer, method).await?;
            let preflight = self.preflight(&file, FOREIGN).await?;
            let is_allowed = preflight.is_success() && preflight.lists("access-control-allow-origin", FOREIGN);
            Ok(if is_allowed {
                Shown::No("the store allows every origin".to_owned())
            } else if preflight.has_failed() {
                Shown::Unknown(format!("the preflight is answered {}", preflight.words()))
            } else {
                Shown::Yes
            })
        };
        Some(told(asked.await))
    }

    async fn preflight(&self, file: &Plain, origin: &str) -> Result<Answered, StorageError> {
        let preflight = Plain::empty("OPTIONS", file.url.clone())
            .with("origin", origin)
            .with("access-control-request-method", file.method)
            .with("access-control-request-headers", &HEADERS.join(","));
        preflight.send(&self.storage).await
    }

    /// What a client sends, and the key under which it then is.
    async fn file(&self, signer: &Signer, method: UploadMethod) -> Result<(Plain, String), StorageError> {
        let (image, key) = self.fresh();
        let request = request(image, now(), None);
        let file = match method {
            UploadMethod::Post => post_file(&signer.post_form(&request).await.map_err(not_signed)?),
            UploadMethod::Put => put_file(signer.put_form(&request).await.map_err(not_signed)?),
        };
        Ok((file, key))
    }
}
