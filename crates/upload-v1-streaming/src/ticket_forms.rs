//! How V1 answers `POST /user/images`: with a form for its own `/uploads`.

use chrono::{DateTime, Utc};
use futures::future::{BoxFuture, ready};
use upload_domain::ImageLimits;
use upload_http::{ApiError, FormMethod, FormParts, IssueForm, PresignedForm};
use upload_persistence::images::Image;
use url::Url;

use crate::{
    ticket::{Ticket, TicketKey},
    ticket_route::form_fields,
};

/// Issues forms whose ticket is signed here.
pub struct TicketForms {
    key: TicketKey,
    uploads_url: String,
    limits: ImageLimits,
}

impl TicketForms {
    /// Forms for the `/uploads` of the server at `public_api_url`.
    pub fn new(key: TicketKey, public_api_url: &Url, limits: ImageLimits) -> Self {
        Self { key, uploads_url: format!("{}/uploads", public_api_url.as_str().trim_end_matches('/')), limits }
    }
}

/// Always a POST, even if the client prefers PUT: the answer's `method` decides.
impl IssueForm for TicketForms {
    fn issue<'a>(
        &'a self,
        image: &'a Image,
        _method: FormMethod,
        _now: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    ) -> BoxFuture<'a, Result<PresignedForm, ApiError>> {
        Box::pin(ready(self.sign(image, expires_at)))
    }
}

impl TicketForms {
    fn sign(&self, image: &Image, expires_at: DateTime<Utc>) -> Result<PresignedForm, ApiError> {
        let ticket = Ticket::new(image, &self.limits, expires_at);
        let signed = self.key.sign(&ticket).map_err(ApiError::internal)?;
        let fields = form_fields(&ticket).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(PresignedForm {
            method: FormMethod::Post,
            // The letters of a JWT need no escape in a URL.
            url: format!("{}?ticket={signed}", self.uploads_url),
            parts: FormParts::Fields(fields),
            expires_at,
        })
    }
}
