//! The requests of one image.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep_until, timeout_at};
use url::Url;

use super::{Caller, Flow, FormMethod, Progress, release::Settings};
use crate::{
    client::{
        Answer, Client, Created, Endpoint, Failure, Form, ImageEntity, Network, Pieces, Role, multipart,
        multipart_content_type,
    },
    payload::Payload,
    record::Step,
};

/// How often one request is sent again before its refusal is final.
const MOST_RETRIES: u32 = 20;
/// How long to wait without a `Retry-After`.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// One image before it is sent, with the requests that can be made in advance.
#[derive(Debug)]
pub enum Image {
    /// Create, upload, link.
    Steps { server: Arc<Endpoint>, create: Request<Pieces>, link: Option<Box<Request<Pieces>>> },
    /// All in one request.
    Once { endpoint: Arc<Endpoint>, request: Request<Pieces>, name: Name },
}

/// How an image of one request is named.
#[derive(Debug)]
pub enum Name {
    /// By a known name.
    Known(String),
    /// By its answer.
    Answered,
}

/// An image that succeeded.
#[derive(Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its name.
    pub name: String,
    /// When each of its steps was answered; empty for one request.
    pub answered: Vec<(Step, Instant)>,
}

/// Everything that is needed to send an image.
pub struct Sending<'a> {
    pub client: &'a mut Client,
    pub network: &'a Network,
    pub settings: &'a Settings,
    pub progress: &'a Progress,
    pub payload: &'a Payload,
}

/// Makes the images of a run.
pub fn images(flow: &Flow, callers: &[Caller], payload: &Payload, count: u32) -> Result<Vec<Image>> {
    let tokens = callers.iter().map(authorization).collect::<Result<Vec<_>>>()?;
    let numbers = 0..count as usize;
    let token = |number: usize| tokens.get(number % tokens.len().max(1)).cloned();
    match flow {
        Flow::Form { server, method, link } => {
            let endpoint = Arc::new(Endpoint::of(server, Role::Server)?);
            let mut wish = json!({ "path": "user-profile", "format": payload.format, "byteSize": payload.file.len() });
            if *method == FormMethod::Put {
                wish["method"] = json!("PUT");
            }
            let create = json_request(&endpoint, &server.join("/user/images")?, wish.to_string())?;
            let link_request = json_request(&endpoint, &server.join("/user/users/profile-image")?, String::new())?;
            let link_request = link.then_some(link_request);
            let image = |number| Image::Steps {
                server: Arc::clone(&endpoint),
                create: with_token(create.clone(), token(number)),
                link: link_request.clone().map(|request| Box::new(with_token(request, token(number)))),
            };
            Ok(numbers.map(image).collect())
        }
        Flow::Multipart { url, fields, file_field } => {
            let endpoint = Arc::new(Endpoint::of(url, Role::Server)?);
            let request = form_request(&endpoint, url, multipart(fields, file_field, payload))?;
            let image = |number| Image::Once {
                endpoint: Arc::clone(&endpoint),
                request: with_token(request.clone(), token(number)),
                name: Name::Answered,
            };
            Ok(numbers.map(image).collect())
        }
        Flow::Prepared { url, to, forms } => {
            if forms.len() < count as usize {
                bail!("there are {} prepared forms for {count} images", forms.len());
            }
            let endpoint = Arc::new(Endpoint::of(url, *to)?);
            let image = |form: &super::PreparedForm| {
                let request = form_request(&endpoint, url, multipart(&form.fields, "file", payload))?;
                Ok(Image::Once { endpoint: Arc::clone(&endpoint), request, name: Name::Known(form.key.clone()) })
            };
            forms[..count as usize].iter().map(image).collect()
        }
    }
}

impl Image {
    /// Sends all its requests.
    pub async fn send(&self, mut sending: Sending<'_>) -> Result<Sent, Failure> {
        let mut answered = Vec::new();
        let name = match self {
            Self::Once { endpoint, request, name } => {
                let answer = sending.request(endpoint, request).await?;
                match name {
                    Name::Known(name) => name.clone(),
                    Name::Answered => name_of(&answer)?,
                }
            }
            Self::Steps { server, create, link } => {
                let created = sending.request(server, create).await?;
                answered.push((Step::Create, Instant::now()));
                let created: Created = serde_json::from_slice(&created.body).map_err(unreadable)?;
                sending.upload(server, &created.presigned_post).await?;
                answered.push((Step::Upload, Instant::now()));
                let id = created.image_entity.id;
                if let Some(link) = link {
                    let mut link = Request::clone(link);
                    *link.body_mut() = Pieces::one(json!({ "imageEntityId": id }).to_string());
                    sending.request(server, &link).await?;
                    answered.push((Step::Link, Instant::now()));
                }
                id
            }
        };
        Ok(Sent { name, answered })
    }
}

impl Sending<'_> {
    async fn upload(&mut self, server: &Endpoint, form: &Form) -> Result<(), Failure> {
        let (endpoint, request) = upload_request(server, form, self.payload).map_err(unreadable)?;
        self.request(&endpoint, &request).await.map(|_stored| ())
    }

    /// Sends one request, and repeats it if the server asks for that and the settings allow it. Any answer but success is a failure.
    async fn request(&mut self, endpoint: &Endpoint, request: &Request<Pieces>) -> Result<Answer, Failure> {
        let deadline = Instant::now() + self.settings.request_timeout;
        let mut retries = 0;
        loop {
            let exchange = self.client.exchange(self.network, endpoint, request.clone());
            let answer = timeout_at(deadline, exchange).await.unwrap_or(Err(Failure::Timeout))?;
            if answer.status.is_success() {
                return Ok(answer);
            }
            let is_temporary = matches!(answer.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
            let again_at =
                Instant::now() + answer.retry_after.unwrap_or(RETRY_AFTER).min(self.settings.request_timeout);
            if !self.settings.retry || !is_temporary || retries == MOST_RETRIES || again_at >= deadline {
                return Err(answer.refusal());
            }
            sleep_until(again_at).await;
            retries += 1;
            self.progress.retried();
        }
    }
}

/// The upload that a form asks for. If the form leads to the server itself, it uses the connection to the server.
fn upload_request(server: &Endpoint, form: &Form, payload: &Payload) -> Result<(Endpoint, Request<Pieces>)> {
    let url: Url = form.url.parse().context("the url of the form is not a URL")?;
    let mut endpoint = Endpoint::of(&url, Role::Store)?;
    if endpoint.authority == server.authority {
        endpoint.role = server.role;
    }
    let request = match form.method.as_deref() {
        Some("PUT") => {
            let mut request = endpoint.request(Method::PUT, &url, Pieces::one(payload.file.clone()))?;
            for (name, value) in &form.headers.0 {
                request.headers_mut().insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
            }
            request
        }
        Some("POST") | None => form_request(&endpoint, &url, multipart(&form.fields.0, "file", payload))?,
        Some(other) => bail!("the form has the unknown method {other}"),
    };
    Ok((endpoint, request))
}

fn json_request(endpoint: &Endpoint, url: &Url, body: String) -> Result<Request<Pieces>> {
    let mut request = endpoint.request(Method::POST, url, Pieces::one(body))?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(request)
}

fn form_request(endpoint: &Endpoint, url: &Url, body: Pieces) -> Result<Request<Pieces>> {
    let mut request = endpoint.request(Method::POST, url, body)?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::try_from(multipart_content_type())?);
    Ok(request)
}

fn with_token(mut request: Request<Pieces>, token: Option<HeaderValue>) -> Request<Pieces> {
    let headers: &mut HeaderMap = request.headers_mut();
    headers.extend(token.map(|token| (AUTHORIZATION, token)));
    request
}

fn authorization(caller: &Caller) -> Result<HeaderValue> {
    let value = HeaderValue::try_from(format!("Bearer {}", caller.token));
    let mut value = value.context("a token has characters that a header cannot have")?;
    value.set_sensitive(true);
    Ok(value)
}

/// The image's id in the answer of our servers, or the object's key in that of a baseline.
fn name_of(answer: &Answer) -> Result<String, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Uploaded {
        image_entity: Option<ImageEntity>,
        key: Option<String>,
    }
    let uploaded: Uploaded = serde_json::from_slice(&answer.body).map_err(unreadable)?;
    uploaded.image_entity.map(|image| image.id).or(uploaded.key).ok_or(Failure::Unreadable)
}

fn unreadable(cause: impl std::fmt::Display) -> Failure {
    tracing::debug!(%cause, "cannot read an answer");
    Failure::Unreadable
}
