//! Conditions on writes with the server's key.

use aws_sdk_s3::primitives::ByteStream;
use upload_domain::ImageFormat;

use super::{Examination, Shown};
use crate::{StorageError, VersionError};

impl Examination {
    /// Whether `If-None-Match: *` keeps a PUT from overwriting.
    pub async fn if_none_match(&self) -> Shown {
        let (_image, key) = self.fresh();
        let asked = async {
            if let Err(error) = self.put(&key, "1").await {
                return Ok(Shown::No(format!("the store refuses it for a new key ({})", crate::chain(&error))));
            }
            let second = self.put(&key, "2").await;
            Ok(match (self.content(&key).await?.as_deref(), second) {
                (Some("1"), Err(_refused)) => Shown::Yes,
                (Some("1"), Ok(())) => Shown::No("the store keeps the first file, but does not say so".to_owned()),
                _ => Shown::No("the store overwrites the first file".to_owned()),
            })
        };
        asked.await.unwrap_or_else(|error: StorageError| error.into())
    }

    /// Whether a copy with `x-amz-copy-source-if-match` is refused if the ETag is another one, and made if it is right.
    pub async fn copy_if_match(&self) -> Shown {
        let ((_image, from), (_other, to)) = (self.fresh(), self.fresh());
        let asked = async {
            self.storage.put(&from, ImageFormat::Png.as_str(), "old".into()).await?;
            let old = self.storage.read_head(&from, None, 1).await?.map(|head| head.etag).unwrap_or_default();
            self.storage.put(&from, ImageFormat::Png.as_str(), "new".into()).await?;
            let new = self.storage.read_head(&from, None, 1).await?.map(|head| head.etag).unwrap_or_default();
            let stale = self.storage.promote(&from, &to, &old, ImageFormat::Png).await;
            match (stale, self.content(&to).await?) {
                (Ok(()), _) | (_, Some(_)) => {
                    return Ok(Shown::No("the store copies a file whose ETag is another one".to_owned()));
                }
                (Err(VersionError::Storage(error)), None) => return Ok(error.into()),
                (Err(VersionError::Changed | VersionError::Missing), None) => {}
            }
            let right = self.storage.promote(&from, &to, &new, ImageFormat::Png).await;
            Ok(match (right, self.content(&to).await?.as_deref()) {
                (Ok(()), Some("new")) => Shown::Yes,
                (Err(VersionError::Storage(error)), _) => error.into(),
                _ => Shown::No("the store does not copy a file whose ETag is right".to_owned()),
            })
        };
        asked.await.unwrap_or_else(|error: StorageError| error.into())
    }

    async fn put(&self, key: &str, content: &'static str) -> Result<(), StorageError> {
        let put = self.storage.client().put_object().bucket(self.storage.bucket()).key(key).if_none_match("*");
        put.body(ByteStream::from_static(content.as_bytes())).send().await?;
        Ok(())
    }
}
