//! Requests as a client sends them: forms, presigned URLs and preflights. The SDK makes no such requests, and this crate has no other HTTP
//! client. So an interceptor replaces a PutObject of the SDK right before it is sent.

use aws_sdk_s3::{
    config::{ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextMut},
    error::BoxError,
    primitives::SdkBody,
};

use crate::{
    PostForm, Storage, StorageError,
    answer::{Answered, KeepsAnswer},
};

/// The delimiter of a form. None of the fields has it.
const BOUNDARY: &str = "upload-servers-form-boundary";

/// A request with exactly these headers, and `host`. As an interceptor it takes the place of the SDK's own request.
#[derive(Debug, Clone)]
pub(crate) struct Plain {
    pub(crate) method: &'static str,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Plain {
    /// A form as `multipart/form-data`, the file last.
    pub(crate) fn form(url: String, form: &PostForm, file: &str) -> Self {
        let fields = form.fields.iter().map(|(name, value)| (format!("name=\"{name}\""), value.as_str()));
        let file = ("name=\"file\"; filename=\"probe\"".to_owned(), file);
        let parts = fields
            .chain([file])
            .map(|(name, value)| format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {name}\r\n\r\n{value}\r\n"));
        let body = parts.collect::<String>() + &format!("--{BOUNDARY}--\r\n");
        let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
        let headers =
            vec![("content-type".to_owned(), content_type), ("content-length".to_owned(), body.len().to_string())];
        Self { method: "POST", url, headers, body }
    }

    /// A request without a body.
    pub(crate) fn empty(method: &'static str, url: String) -> Self {
        Self { method, url, headers: Vec::new(), body: String::new() }
    }

    /// Adds a header.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends it, to whatever host it names. Every answer is `Ok`.
    pub(crate) async fn send(self, storage: &Storage) -> Result<Answered, StorageError> {
        let kept = KeepsAnswer::default();
        let put = storage.client().put_object().bucket(storage.bucket()).key("plain").customize();
        let sent = Box::pin(put.interceptor(self).interceptor(kept.clone()).send()).await;
        match (kept.take(), sent) {
            (Some(answered), _) => Ok(answered),
            (None, Err(error)) => Err(error.into()),
            (None, Ok(_)) => Err(StorageError::unavailable("the answer was not kept")),
        }
    }
}

impl Intercept for Plain {
    fn name(&self) -> &'static str {
        "Plain"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let signed: Vec<String> = request.headers().iter().map(|(name, _value)| name.to_owned()).collect();
        for name in signed {
            request.headers_mut().remove(name);
        }
        request.set_method(self.method)?;
        request.set_uri(self.url.as_str())?;
        for (name, value) in &self.headers {
            request.headers_mut().try_insert(name.clone(), value.clone())?;
        }
        *request.body_mut() = SdkBody::from(self.body.as_str());
        Ok(())
    }
}
