//! Forms for the bucket, signed with the signer's key: a POST policy, or a PUT if the client or the deployer asks for one.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use upload_http::{ApiError, Code, FormMethod, FormParts, IssueForm, PresignedForm};
use upload_persistence::images::Image;
use upload_storage::{FormError, FormRequest, Signer, UploadMethod};

/// Issues forms that the store accepts.
pub struct SignedForms {
    signer: Arc<Signer>,
    usual: UploadMethod,
    max_image_bytes: u64,
}

impl SignedForms {
    /// Forms for files of at most `max_image_bytes`, or of exactly the declared size.
    pub fn new(signer: Arc<Signer>, usual: UploadMethod, max_image_bytes: u64) -> Self {
        Self { signer, usual, max_image_bytes }
    }
}

impl IssueForm for SignedForms {
    fn methods(&self) -> &'static [FormMethod] {
        match self.usual {
            UploadMethod::Post => &[FormMethod::Post, FormMethod::Put],
            UploadMethod::Put => &[FormMethod::Put],
        }
    }

    /// Fetched credentials can expire while the source has no newer ones.
    fn failures(&self) -> &'static [Code] {
        &[Code::StorageUnavailable]
    }

    fn issue<'a>(
        &'a self,
        image: &'a Image,
        method: FormMethod,
        now: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    ) -> BoxFuture<'a, Result<PresignedForm, ApiError>> {
        let request = FormRequest {
            image: image.id,
            format: image.format,
            min_bytes: image.byte_size.unwrap_or(1),
            max_bytes: image.byte_size.unwrap_or(self.max_image_bytes),
            checksum_sha256: image.checksum_sha256,
            now,
            expires_at,
        };
        Box::pin(async move {
            let (url, parts, expires_at) = match method {
                FormMethod::Post => {
                    let form = self.signer.post_form(&request).await.map_err(not_signed)?;
                    (form.url, FormParts::Fields(form.fields), form.expires_at)
                }
                FormMethod::Put => {
                    let form = self.signer.put_form(&request).await.map_err(not_signed)?;
                    (form.url, FormParts::Headers(form.headers), form.expires_at)
                }
            };
            Ok(PresignedForm { method, url, parts, expires_at })
        })
    }
}

fn not_signed(error: FormError) -> ApiError {
    match error {
        FormError::Storage(error) => error.into(),
        error => ApiError::internal(error),
    }
}
