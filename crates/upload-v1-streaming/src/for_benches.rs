//! What `upload-bench` measures of this server's hot code. It is no part of the crate's interface and may change with any commit.

use std::time::Duration;

use actix_web::{FromRequest as _, dev, http::header, test::TestRequest, web};
use bytes::Bytes;
use futures::stream;
use upload_domain::ImageLimits;
use upload_http::ApiError;

use crate::{
    client_body::BodyLimits,
    form::{FormRequest, malformed},
};

pub use crate::ticket::{Ticket, TicketKey};

/// Longer than any measurement: the clocks run as they do in the routes, and cut nothing off.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Reads a form that is nothing but a file, in the chunks in which a socket gave it, as both routes do, and returns the
/// file's length in bytes.
///
/// # Errors
/// As the routes answer it: the form is malformed, or larger than it may be.
pub async fn read_form(content_type: &str, chunks: Vec<Bytes>) -> Result<u64, ApiError> {
    let length: usize = chunks.iter().map(Bytes::len).sum();
    let request = TestRequest::post()
        .insert_header((header::CONTENT_TYPE, content_type))
        .insert_header((header::CONTENT_LENGTH, length))
        .to_http_request();
    let body = stream::iter(chunks.into_iter().map(Ok));
    let mut payload: dev::Payload = dev::Payload::Stream { payload: Box::pin(body) };
    let payload = web::Payload::from_request(&request, &mut payload).await;
    let payload = payload.map_err(|error| malformed(&error.to_string()))?;
    let form = FormRequest::check(&request, ImageLimits::default().max_image_bytes)?;
    let limits = BodyLimits { max_bytes: u64::MAX, rate_window: PATIENCE, max_time: PATIENCE };
    let mut form = form.open(&request, payload, limits).await?;
    let file = form.next_part().await?.ok_or_else(|| malformed("the form has no file"))?;
    form.begin_file(file)?;
    let mut file_bytes = 0;
    while let Some(chunk) = form.next_chunk().await? {
        file_bytes += chunk.len() as u64;
    }
    form.end().await?;
    Ok(file_bytes)
}
