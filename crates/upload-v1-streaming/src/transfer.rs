//! How a file's bytes travel from a form to the store: streamed where the length is known, buffered where it is not.
//!
//! Streaming is one PUT of exact length with a window between client and store. Its last bytes are sent only after the
//! parser has proven that the file ends where it was predicted to, and that the form ends with it. A PUT without its last
//! byte stores nothing. A file that fits into the inspected head needs no prediction. A form whose end cannot be predicted
//! is buffered in memory, within a budget.

use std::time::Instant;

use actix_web::http::StatusCode;
use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use tracing::info;
use upload_domain::{Dimensions, HEAD_BYTES, ImageFormat, Refusal, Sha256Checksum, inspect};
use upload_http::{ApiError, Code, Shared};
use upload_persistence::images::Image;
use upload_storage::{Storage, StorageError};

use crate::{
    Upload, V1,
    attempt::Attempt,
    form::Form,
    upload_body::{UploadWriter, WriteError, upload_body},
};

/// How much of a file is inspected at first, in bytes.
const LEAST_HEAD_BYTES: usize = 512;

/// What a transfer needs besides the form.
pub struct Transfer<'a> {
    /// The data of both servers, with the limits on images.
    pub shared: &'a Shared,
    /// V1's own data, with the memory budget for forms of unknown length.
    pub v1: &'a V1,
    /// The worker's own connections to the store.
    pub storage: &'a Storage,
    /// The upload, perhaps with memory for a file that must be buffered.
    pub upload: &'a Upload,
    /// The upload's attempt, with the media key to write.
    pub attempt: Attempt,
    /// The route's own check of the file's length.
    pub check_length: &'a dyn Fn(u64) -> Result<(), ApiError>,
    /// The declared format.
    pub format: ImageFormat,
    /// The declared length, in bytes.
    pub declared_bytes: Option<u64>,
    /// The declared digest.
    pub checksum_sha256: Option<Sha256Checksum>,
}

/// A file that is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its length.
    pub byte_size: u64,
    /// Its size in pixels.
    pub dimensions: Dimensions,
    /// The store's ETag, with its quotation marks.
    pub etag: String,
    /// How it went there: `streamed` or `buffered`.
    pub way: &'static str,
}

/// Why a file was not stored, or may not be stored.
#[derive(Debug)]
pub enum TransferError {
    /// Its content is refused.
    Refused(Refusal),
    /// Something else.
    Failed(ApiError),
    /// The store received the whole file but did not confirm it.
    Unknown {
        /// What the store said instead.
        error: StorageError,
        /// The file that it may have stored.
        stored: Stored,
    },
}

impl From<ApiError> for TransferError {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

impl From<Refusal> for TransferError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Transfer<'_> {
    /// Brings the file to the store and its facts to the attempt's row. `file_bytes` is the file's length, if the form implies it.
    pub async fn receive(self, form: &mut Form, file_bytes: Option<u64>) -> Result<(Image, Stored), ApiError> {
        let started = Instant::now();
        let outcome = self.store(form, file_bytes).await;
        let (image, stored) = self.attempt.finish(outcome).await?;
        self.v1.metrics.received(stored.way, stored.byte_size);
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        info!(image.id = %image.id, size_bytes = stored.byte_size, duration_ms, way = stored.way, "image uploaded");
        Ok((image, stored))
    }

    async fn store(&self, form: &mut Form, file_bytes: Option<u64>) -> Result<Stored, TransferError> {
        match file_bytes {
            Some(length) if length > HEAD_BYTES as u64 => self.stream(form, length).await,
            _ => self.buffer(form).await,
        }
    }

    /// Streams a file that is `length` bytes long if the form keeps its word.
    async fn stream(&self, form: &mut Form, length: u64) -> Result<Stored, TransferError> {
        form.expect(length);
        let (head, dimensions) = self.judge_head(form, length).await?;
        let media_key = self.attempt.hold().media_key();
        let (writer, body) = upload_body(length, self.v1.storage_timeout);
        let mut put = std::pin::pin!(self.storage.put_stream(&media_key, self.format, length, body));
        let fed = tokio::select! {
            biased;
            fed = self.feed(form, head, length, writer) => fed,
            answer = &mut put => return Err(TransferError::Failed(self.early_answer(answer))),
        };
        match fed {
            Ok(()) => {}
            Err(FeedError::Closed) => return Err(TransferError::Failed(self.early_answer(put.await))),
            Err(FeedError::Transfer(error)) => return Err(error),
        }
        let answer =
            timeout(self.v1.storage_timeout, put).await.unwrap_or_else(|elapsed| Err(StorageError::timeout(elapsed)));
        stored_or_not(answer, Stored { byte_size: length, dimensions, etag: String::new(), way: "streamed" })
    }

    /// Reads as much of the file as the inspection needs: nearly always the first chunk, at most [`HEAD_BYTES`] and the chunk
    /// that completes them.
    async fn judge_head(&self, form: &mut Form, length: u64) -> Result<(Bytes, Dimensions), TransferError> {
        let mut copied = BytesMut::new();
        let mut enough = LEAST_HEAD_BYTES;
        while let Some(chunk) = form.next_chunk().await? {
            if !copied.is_empty() || chunk.len() < enough {
                copied.extend_from_slice(&chunk);
            }
            // Nearly always the first chunk is enough, and is not copied.
            let head = if copied.is_empty() { &chunk[..] } else { &copied[..] };
            if head.len() < enough {
                continue;
            }
            let seen = &head[..head.len().min(HEAD_BYTES)];
            match inspect(seen, length, self.declared_bytes, self.format, &self.shared.limits) {
                Ok(dimensions) if copied.is_empty() => return Ok((chunk, dimensions)),
                Ok(dimensions) => return Ok((copied.freeze(), dimensions)),
                // Twice as much next time, so that a file in tiny chunks is not inspected after each one.
                Err(Refusal::HeaderTooLong) if seen.len() < HEAD_BYTES => {
                    enough = HEAD_BYTES.min(2 * head.len());
                    if copied.is_empty() {
                        copied.extend_from_slice(&chunk);
                    }
                }
                Err(refusal) => return Err(refusal.into()),
            }
        }
        form.end().await?;
        Err(length_mismatch().into())
    }

    /// Passes the file on as it arrives, and completes it only when the form has ended as predicted. Dropping `writer` before
    /// that makes the PUT fail.
    async fn feed(&self, form: &mut Form, head: Bytes, length: u64, writer: UploadWriter) -> Result<(), FeedError> {
        let mut digest = self.checksum_sha256.map(|_declared| Sha256::new());
        let mut seen_bytes = 0;
        let mut next = Some(head);
        while let Some(bytes) = next {
            seen_bytes += bytes.len() as u64;
            if seen_bytes > length {
                return Err(length_mismatch().into());
            }
            if let Some(digest) = &mut digest {
                digest.update(&bytes);
            }
            writer.write(bytes).await?;
            next = form.next_chunk().await?;
        }
        form.end().await?;
        if seen_bytes != length {
            return Err(length_mismatch().into());
        }
        self.check_digest(digest)?;
        self.attempt.hold().will_write();
        writer.finish().await?;
        Ok(())
    }

    /// Buffers a file that is no longer than the head, or whose length is unknown until it ends. If it is longer than the
    /// head, it needs memory from the budget.
    async fn buffer(&self, form: &mut Form) -> Result<Stored, TransferError> {
        let max_bytes = self.shared.limits.max_image_bytes;
        // One case has no reserved memory: the form has no final line break, and makes the file longer than the head.
        let mut room = None;
        let mut total_bytes = 0;
        let mut blocks = Vec::new();
        let mut block = BytesMut::new();
        while let Some(mut chunk) = form.next_chunk().await? {
            total_bytes += chunk.len() as u64;
            if total_bytes > max_bytes {
                return Err(ApiError::payload_too_large(max_bytes).into());
            }
            if total_bytes > HEAD_BYTES as u64 && self.upload.room.is_none() && room.is_none() {
                let reserved = self.v1.admission.buffer(self.upload.uploader, max_bytes).await;
                room = Some(reserved.map_err(crate::not_admitted)?);
            }
            while !chunk.is_empty() {
                let taken = chunk.split_to(chunk.len().min(HEAD_BYTES - block.len()));
                block.extend_from_slice(&taken);
                if block.len() == HEAD_BYTES {
                    blocks.push(std::mem::take(&mut block).freeze());
                }
            }
        }
        form.end().await?;
        if !block.is_empty() {
            blocks.push(block.freeze());
        }
        self.store_buffered(blocks).await
    }

    /// Stores a file that is completely in memory; its first block is the head.
    async fn store_buffered(&self, blocks: Vec<Bytes>) -> Result<Stored, TransferError> {
        let byte_size = blocks.iter().map(|block| block.len() as u64).sum();
        (self.check_length)(byte_size)?;
        let head = blocks.first().map(Bytes::as_ref).unwrap_or_default();
        let dimensions = inspect(head, byte_size, self.declared_bytes, self.format, &self.shared.limits)?;
        self.check_digest(
            self.checksum_sha256
                .map(|_declared| blocks.iter().fold(Sha256::new(), |digest, block| digest.chain_update(block))),
        )?;
        self.attempt.hold().will_write();
        let answer = self.storage.put_buffered(&self.attempt.hold().media_key(), self.format, blocks).await;
        stored_or_not(answer, Stored { byte_size, dimensions, etag: String::new(), way: "buffered" })
    }

    /// The error for a PUT that was answered before its last slice was sent. Nothing can have been stored; if the store claims success
    /// all the same, the attempt counts as having written.
    fn early_answer(&self, answer: Result<String, StorageError>) -> ApiError {
        match answer {
            Err(error) => error.into(),
            Ok(_etag) => {
                self.attempt.hold().will_write();
                ApiError::new(
                    Code::StorageUnavailable,
                    "The image store answered before it had the whole file; try again.",
                )
            }
        }
    }

    /// S3 answers a wrong digest with 400 and keeps nothing of it.
    fn check_digest(&self, digest: Option<Sha256>) -> Result<(), ApiError> {
        let found = digest.map(|digest| Sha256Checksum::from(<[u8; 32]>::from(digest.finalize())));
        if found == self.checksum_sha256 {
            return Ok(());
        }
        let refused = ApiError::new(Code::ChecksumMismatch, "The file's SHA-256 does not match the declared one.");
        Err(refused.with_status(StatusCode::BAD_REQUEST))
    }
}

/// Why a body was not written to its end.
enum FeedError {
    Transfer(TransferError),
    /// The PUT has ended; its result is the reason.
    Closed,
}

impl From<ApiError> for FeedError {
    fn from(error: ApiError) -> Self {
        Self::Transfer(TransferError::Failed(error))
    }
}

impl From<TransferError> for FeedError {
    fn from(error: TransferError) -> Self {
        Self::Transfer(error)
    }
}

impl From<WriteError> for FeedError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Closed => Self::Closed,
            WriteError::Stalled => ApiError::from(StorageError::timeout(error)).into(),
        }
    }
}

/// The meaning of the store's answer to a whole file. After a refusal the object is not looked for: a try before a retry may have stored
/// it, but then a sweep deletes it.
fn stored_or_not(answer: Result<String, StorageError>, stored: Stored) -> Result<Stored, TransferError> {
    match answer {
        Ok(etag) => Ok(Stored { etag, ..stored }),
        Err(error @ StorageError::Refused(_)) => Err(TransferError::Failed(error.into())),
        Err(error) => Err(TransferError::Unknown { error, stored }),
    }
}

fn length_mismatch() -> ApiError {
    let detail = "The file does not end where the request's Content-Length says; declare byteSize before the file.";
    ApiError::new(Code::MultipartLengthMismatch, detail)
}
