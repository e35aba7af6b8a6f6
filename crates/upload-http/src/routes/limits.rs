//! What a client can know before it uploads.

use actix_web::web::{Data, Json};
use serde::Serialize;
use upload_domain::ImageFormat;

use crate::Shared;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Limits {
    strategy: &'static str,
    formats: &'static [ImageFormat],
    max_image_bytes: u64,
    max_width: u32,
    max_height: u32,
    max_pixels: u64,
    form_ttl_seconds: u64,
    pending_ttl_seconds: u64,
}

/// `GET /limits`.
pub(super) async fn show(shared: Data<Shared>) -> Json<Limits> {
    Json(Limits {
        strategy: shared.strategy,
        formats: ImageFormat::ALL,
        max_image_bytes: shared.limits.max_image_bytes,
        max_width: shared.limits.max_width,
        max_height: shared.limits.max_height,
        max_pixels: shared.limits.max_pixels,
        form_ttl_seconds: shared.timing.form_ttl.as_secs(),
        pending_ttl_seconds: shared.timing.pending_ttl.as_secs(),
    })
}
