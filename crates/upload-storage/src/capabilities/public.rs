//! The address that clients use: whether it leads to the same bucket, and which web pages may use it.

use std::time::Duration;

use upload_domain::{AttemptId, media_key};
use uuid::Uuid;

use super::{
    Examination, Shown,
    forms::{not_signed, now, post_file, put_file, request},
};
use crate::{Signer, StorageError, UploadMethod, chain, pin, plain::Plain};

/// How long the read URL of the question works.
const READ_TTL: Duration = Duration::from_secs(60);

impl Examination {
    /// Whether the store answers at the public address, and knows the signature of a read there. A proxy that changes `Host` breaks it.
    pub async fn public_read(&self) -> Shown {
        let asked = async {
            let key = media_key(pin::probe_id(), AttemptId::from(Uuid::new_v4()));
            let read = self.storage.read_url(&key, None, READ_TTL).await?;
            let answered = Plain::empty("GET", read.url).send(&self.storage).await?;
            Ok(match answered.code() {
                Some("NoSuchKey" | "AccessDenied") => Shown::Yes,
                // A public address need not be S3's: it only must not have what is not there.
                _ if matches!(answered.status, 403 | 404) && self.storage.settings().media_public_base_url.is_some() => {
                    Shown::Yes
                }
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
            let preflight = Plain::empty("OPTIONS", file.url.clone())
                .with("origin", origin)
                .with("access-control-request-method", file.method)
                .with("access-control-request-headers", "content-type");
            let preflight = preflight.send(&self.storage).await?;
            if !preflight.is_success() || !preflight.lists("access-control-allow-origin", origin) {
                return Ok(Shown::No(format!("the preflight is answered {}, without this origin", preflight.words())));
            }
            if !preflight.lists("access-control-allow-methods", file.method) {
                return Ok(Shown::No(format!("the preflight does not allow {}", file.method)));
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
        Some(asked.await.unwrap_or_else(|error: StorageError| error.into()))
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
