//! Requests that nobody has signed, or whose signature is wrong: the store must refuse all of them.
//!
//! A form shows the id of the signer's key to everybody, and so does a URL with the reader's. There are stores that take an id for enough if
//! the request says that its body is not signed (GHSA-hv4r-mvr4-25vw).

use upload_domain::ImageFormat;

use super::{
    Examination, Shown,
    forms::{FILE, not_signed, now, post_file, put_file, request, set, told},
};
use crate::{Signer, StorageError, plain::Plain, url_signer::encode_key};

/// `x-amz-content-sha256` of a body in chunks that no signature covers.
const UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
/// [`FILE`] as such a body, with its CRC-32.
const FILE_IN_CHUNKS: &str = "4\r\nfile\r\n0\r\nx-amz-checksum-crc32:jJ82EA==\r\n\r\n";
/// Where the signature is in a URL.
const SIGNATURE: &str = "X-Amz-Signature=";

/// What the store does with forged requests; [`Shown::Yes`] if it refuses them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forged {
    /// Reads without a signature.
    pub read: Shown,
    /// A list of the bucket without a signature.
    pub list: Shown,
    /// PUTs without a signature.
    pub write: Shown,
    /// A POST form whose signature has another digit. This and the next two are `None` without a signer.
    pub post_form: Option<Shown>,
    /// The same of a presigned PUT.
    pub put_form: Option<Shown>,
    /// The same of a presigned PUT that says that its body is not signed.
    pub unsigned_body: Option<Shown>,
}

impl Forged {
    /// Whether the store refused every one that was sent.
    pub fn are_refused(&self) -> bool {
        let with_signer = [&self.post_form, &self.put_form, &self.unsigned_body].into_iter().flatten();
        [&self.read, &self.list, &self.write].into_iter().chain(with_signer).all(Shown::is_yes)
    }
}

impl Examination {
    /// Sends requests without a signature, and with wrong ones.
    pub async fn forged(&self) -> Forged {
        let (post_form, put_form, unsigned_body) = match self.signer() {
            Some(signer) => (
                Some(told(self.forged_post(signer).await)),
                Some(told(self.forged_put(signer).await)),
                Some(told(self.forged_body(signer).await)),
            ),
            None => (None, None, None),
        };
        Forged {
            read: told(self.unsigned_read().await),
            list: told(self.unsigned_list().await),
            write: told(self.unsigned_write().await),
            post_form,
            put_form,
            unsigned_body,
        }
    }

    async fn unsigned_read(&self) -> Result<Shown, StorageError> {
        let mut keys = vec![self.fresh().1];
        // With a public address for media, anyone may read those.
        if self.storage.settings().media_public_base_url.is_none() {
            keys.push(self.fresh_media());
        }
        for key in keys {
            self.storage.put(&key, ImageFormat::Png.as_str(), FILE.into()).await?;
            let answered = Plain::empty("GET", self.url(&key)).send(&self.storage).await?;
            if answered.is_success() {
                return Ok(Shown::No(format!("the store answers {}, so anyone can read {key}", answered.words())));
            }
            if answered.has_failed() {
                return Ok(Shown::Unknown(format!("the store answers {}", answered.words())));
            }
        }
        Ok(Shown::Yes)
    }

    async fn unsigned_list(&self) -> Result<Shown, StorageError> {
        let url = format!("{}/?list-type=2&max-keys=1", self.bucket.url().trim_end_matches('/'));
        let answered = Plain::empty("GET", url).send(&self.storage).await?;
        Ok(if answered.is_success() {
            Shown::No(format!("the store answers {}, so anyone can list the bucket", answered.words()))
        } else if answered.has_failed() {
            Shown::Unknown(format!("the store answers {}", answered.words()))
        } else {
            Shown::Yes
        })
    }

    async fn unsigned_write(&self) -> Result<Shown, StorageError> {
        for key in [self.fresh().1, self.fresh_media()] {
            let headers = [("content-type", ImageFormat::Png.as_str()), ("content-length", "4")];
            let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            let put = Plain { method: "PUT", url: self.url(&key), headers, body: FILE.to_owned() };
            let answered = put.send(&self.storage).await?;
            let shown = self.refused(answered, &key).await?;
            if !shown.is_yes() {
                return Ok(shown);
            }
        }
        Ok(Shown::Yes)
    }

    async fn forged_post(&self, signer: &Signer) -> Result<Shown, StorageError> {
        let (image, key) = self.fresh();
        let mut form = signer.post_form(&request(image, now(), None)).await.map_err(not_signed)?;
        let signature = form.fields.iter().find(|(name, _value)| name == "x-amz-signature");
        let wrong = signature.map(|(_name, value)| other_digit(value, 0)).unwrap_or_default();
        set(&mut form.fields, "x-amz-signature", &wrong);
        let answered = post_file(&form).send(&self.storage).await?;
        self.refused(answered, &key).await
    }

    async fn forged_put(&self, signer: &Signer) -> Result<Shown, StorageError> {
        let (put, key) = self.forged_put_of(signer).await?;
        let answered = put.send(&self.storage).await?;
        self.refused(answered, &key).await
    }

    async fn forged_body(&self, signer: &Signer) -> Result<Shown, StorageError> {
        let (mut put, key) = self.forged_put_of(signer).await?;
        set(&mut put.headers, "content-length", &FILE_IN_CHUNKS.len().to_string());
        let put = Plain { body: FILE_IN_CHUNKS.to_owned(), ..put }
            .with("content-encoding", "aws-chunked")
            .with("x-amz-content-sha256", UNSIGNED_TRAILER)
            .with("x-amz-decoded-content-length", &FILE.len().to_string())
            .with("x-amz-trailer", "x-amz-checksum-crc32");
        let answered = put.send(&self.storage).await?;
        self.refused(answered, &key).await
    }

    /// A presigned PUT whose signature has another digit.
    async fn forged_put_of(&self, signer: &Signer) -> Result<(Plain, String), StorageError> {
        let (image, key) = self.fresh();
        let form = signer.put_form(&request(image, now(), None)).await.map_err(not_signed)?;
        let mut put = put_file(form);
        let digit = put.url.find(SIGNATURE).map(|at| at + SIGNATURE.len());
        let digit = digit.ok_or_else(|| StorageError::Refused("a presigned URL has no signature".into()))?;
        put.url = other_digit(&put.url, digit);
        Ok((put, key))
    }

    /// Where an object is, without a signature.
    fn url(&self, key: &str) -> String {
        format!("{}/{}", self.bucket.url().trim_end_matches('/'), encode_key(key))
    }
}

/// The text with another hexadecimal digit at this place.
fn other_digit(text: &str, at: usize) -> String {
    let digits = text.char_indices().map(|(place, digit)| match (place == at, digit) {
        (true, '0') => '1',
        (true, _) => '0',
        (false, digit) => digit,
    });
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_digit_alone_is_changed() {
        assert_eq!(other_digit("a0b", 0), "00b");
        assert_eq!(other_digit("a0b", 1), "a1b");
    }
}
