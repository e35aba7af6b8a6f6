//! `GET /metrics`, for Prometheus.

use actix_web::{HttpResponse, http::header, web::Data};

use crate::{ApiError, Shared};

/// Everything that this server counts.
pub(super) async fn show(shared: Data<Shared>) -> Result<HttpResponse, ApiError> {
    let text = shared.metrics.text().map_err(ApiError::internal)?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8"))
        .body(text))
}
