//! `GET /metrics`, for Prometheus.

use actix_web::{
    HttpResponse,
    http::{StatusCode, header::CONTENT_TYPE},
    web::Data,
};
use utoipa::openapi::{Content, ResponseBuilder};

use crate::{ApiError, Operation, Shared, schemas};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn show_operation() -> Operation {
    let text =
        ResponseBuilder::new().description("OpenMetrics.").content(OPEN_METRICS, Content::new(Some(schemas::text())));
    Operation::new("Operations", "getMetrics", "Read this server's metrics, for Prometheus")
        .answers_with(StatusCode::OK, text.build())
}

/// All metrics of this server.
pub(super) async fn show(shared: Data<Shared>) -> Result<HttpResponse, ApiError> {
    let text = shared.metrics.text().map_err(ApiError::internal)?;
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, OPEN_METRICS)).body(text))
}
