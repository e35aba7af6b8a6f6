//! One upload from its first byte to its row: what both of V1's routes do once they know the image.

use std::time::Instant;

use tracing::info;
use upload_domain::{ImageFormat, Sha256Checksum};
use upload_http::{ApiError, Shared};
use upload_persistence::images::Image;
use upload_storage::Storage;

use crate::{
    Turn, V1,
    attempt::Attempt,
    form::Form,
    transfer::{Stored, Transfer},
};

/// An upload whose image is known and whose attempt has begun.
pub struct Reception<'a> {
    /// The hold on the image's row.
    pub attempt: Attempt,
    /// The declared format.
    pub format: ImageFormat,
    /// The declared length, in bytes.
    pub declared_bytes: Option<u64>,
    /// The declared digest.
    pub checksum_sha256: Option<Sha256Checksum>,
    /// The route's own answer to a file of a length that it does not take.
    pub check_length: &'a dyn Fn(u64) -> Result<(), ApiError>,
}

/// Brings the file to the store and its facts to the row.
pub async fn receive(
    reception: Reception<'_>,
    turn: &Turn,
    form: &mut Form,
    file_bytes: Option<u64>,
    shared: &Shared,
    v1: &V1,
    storage: &Storage,
) -> Result<(Image, Stored), ApiError> {
    let started = Instant::now();
    let Reception { attempt, format, declared_bytes, checksum_sha256, check_length } = reception;
    let hold = attempt.hold()?;
    let transfer = Transfer {
        storage,
        admission: &v1.admission,
        limits: &shared.limits,
        check_length,
        storage_timeout: v1.storage_timeout,
        hold: &hold,
        has_room: turn.room.is_some(),
        format,
        declared_bytes,
        checksum_sha256,
    };
    let outcome = transfer.run(form, file_bytes).await;
    let (image, stored) = attempt.finish(outcome).await?;
    v1.metrics.received(stored.way, stored.byte_size);
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    info!(image.id = %image.id, size_bytes = stored.byte_size, duration_ms, way = stored.way, "image uploaded");
    Ok((image, stored))
}
