//! What a client can know before it uploads.

use actix_web::{
    http::StatusCode,
    web::{Data, Json},
};
use serde::Serialize;
use upload_domain::{ImageFormat, ImageLimits};
use utoipa::ToSchema;

use crate::{FormMethod, Operation, Shared, schemas};

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Limits {
    /// How files travel: `streaming` through the server, or `presigned` straight to the store.
    strategy: &'static str,
    /// The methods that forms can have, the usual one first. If it is PUT, every image needs `byteSize`.
    form_methods: &'static [FormMethod],
    #[schema(value_type = Vec<schemas::ImageFormat>)]
    formats: &'static [ImageFormat],
    max_image_bytes: u64,
    max_width: u32,
    max_height: u32,
    max_pixels: u64,
    /// How long a form works.
    form_ttl_seconds: u64,
    /// How long after its creation the server keeps an image that is not linked.
    pending_ttl_seconds: u64,
}

pub(super) fn show_operation() -> Operation {
    let defaults = ImageLimits::default();
    Operation::new("Operations", "getLimits", "Read the limits on files and times")
        .description(format!(
            "All limits are settings. By default a file can have at most {} bytes, {} by {} pixels, and {} pixels in all.",
            defaults.max_image_bytes, defaults.max_width, defaults.max_height, defaults.max_pixels
        ))
        .answers::<Limits>(StatusCode::OK, "The limits.")
}

/// `GET /limits`.
pub(super) async fn show(shared: Data<Shared>) -> Json<Limits> {
    Json(Limits {
        strategy: shared.strategy,
        form_methods: shared.forms.methods(),
        formats: ImageFormat::ALL,
        max_image_bytes: shared.limits.max_image_bytes,
        max_width: shared.limits.max_width,
        max_height: shared.limits.max_height,
        max_pixels: shared.limits.max_pixels,
        form_ttl_seconds: shared.timing.form_ttl.as_secs(),
        pending_ttl_seconds: shared.timing.pending_ttl.as_secs(),
    })
}
