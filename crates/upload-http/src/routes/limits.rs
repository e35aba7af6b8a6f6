//! What a client can know before it uploads.

use actix_web::{
    http::StatusCode,
    web::{Data, Json},
};
use serde::Serialize;
use upload_domain::{ImageFormat, ImageLimits};
use utoipa::ToSchema;

use crate::{Operation, Shared, schemas};

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Limits {
    /// How files travel: `streaming` through the server, or `presigned` straight to the store.
    strategy: &'static str,
    #[schema(value_type = Vec<schemas::ImageFormat>)]
    formats: &'static [ImageFormat],
    max_image_bytes: u64,
    max_width: u32,
    max_height: u32,
    max_pixels: u64,
    /// How long a form may be used.
    form_ttl_seconds: u64,
    /// How long after its creation an image that is not linked is removed.
    pending_ttl_seconds: u64,
}

pub(super) fn show_operation() -> Operation {
    let defaults = ImageLimits::default();
    Operation::new("Operations", "getLimits", "Read what a file may measure, and how long things last")
        .description(format!(
            "All of it is settings. By default a file has at most {} bytes, {} by {} pixels, and {} pixels in all.",
            defaults.max_image_bytes, defaults.max_width, defaults.max_height, defaults.max_pixels
        ))
        .answers::<Limits>(StatusCode::OK, "The limits.")
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
