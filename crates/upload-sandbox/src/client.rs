//! The one client for both servers: create an image, upload by the form that came back, link, read. It never asks which
//! server it talks to, so it drives either, and one after the other.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use reqwest::{
    Method, RequestBuilder,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{HeaderMap, LOCATION},
    multipart::{Form, Part},
    redirect,
};
use serde_json::{Value, json};
use upload_domain::{ImageFormat, ImagePath};
use url::Url;

/// Is called for each answer, on the thread that reads it, with the request's method and URL, and the answer.
pub type Observer = fn(method: &str, url: &Url, answer: &Answer);

static OBSERVER: OnceLock<Observer> = OnceLock::new();

/// A caller of one server.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    server: String,
    token: Option<String>,
}

/// The answer to a request, whether a success or a refusal.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// The body's bytes.
    pub body: Bytes,
    /// The body as JSON; null if it is not JSON.
    pub json: Value,
}

/// From now on calls the observer for every answer that a client of this process reads. Only the first observer counts.
pub fn observe(observer: Observer) {
    OBSERVER.get_or_init(|| observer);
}

impl Answer {
    async fn to(request: RequestBuilder) -> Result<Self> {
        let (http, request) = request.build_split();
        let request = request?;
        let (method, url) = (request.method().clone(), request.url().clone());
        let response = http.execute(request).await.context("no answer came")?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.context("the answer broke off")?;
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let answer = Self { status, headers, body, json };
        if let Some(observer) = OBSERVER.get() {
            observer(method.as_str(), &url, &answer);
        }
        Ok(answer)
    }

    /// The `code` of an error, empty without one.
    pub fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }

    /// Status and `code`, to be compared in one assertion.
    pub fn refusal(&self) -> (u16, &str) {
        (self.status, self.code())
    }

    /// A header's text; empty if the header is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The id of the image that was created.
    pub fn image_id(&self) -> &str {
        self.json["imageEntity"]["id"].as_str().unwrap_or_default()
    }

    /// The form that came with it.
    pub fn form(&self) -> &Value {
        &self.json["presignedPost"]
    }

    /// Returns this answer if it has the status, else an error that shows the answer.
    pub fn expect_status(self, status: u16) -> Result<Self> {
        if self.status == status {
            return Ok(self);
        }
        bail!("the answer is {}, not {status}: {}", self.status, String::from_utf8_lossy(&self.body))
    }
}

/// Resolves the names below `localhost` to this machine (RFC 6761, 6.3), since not every resolver does. Resolves other names as usual.
struct Loopback;

impl Resolve for Loopback {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let name = if name.as_str().ends_with(".localhost") { "127.0.0.1" } else { name.as_str() };
            let found: Vec<_> = tokio::net::lookup_host((name, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl Client {
    /// A caller with a bearer token.
    pub fn new(server: impl Into<String>, token: impl Into<String>) -> Result<Self> {
        Ok(Self { token: Some(token.into()), ..Self::anonymous(server)? })
    }

    /// A caller without a token.
    pub fn anonymous(server: impl Into<String>) -> Result<Self> {
        // The tests look at redirects, and the machine's proxy must not stand between the tests and their servers.
        let http = reqwest::Client::builder().redirect(redirect::Policy::none()).no_proxy();
        let http = http.dns_resolver(Arc::new(Loopback)).build()?;
        Ok(Self { http, server: server.into(), token: None })
    }

    /// The server's URL.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The same caller at another server.
    #[must_use]
    pub fn at(&self, server: impl Into<String>) -> Self {
        Self { server: server.into(), ..self.clone() }
    }

    /// Another caller at the same server.
    #[must_use]
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// A request to a path of the server, with the token, for calls that have no function here.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.server));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request as it is.
    pub async fn send(&self, request: RequestBuilder) -> Result<Answer> {
        Answer::to(request).await
    }

    /// GET of a path.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        Answer::to(self.request(Method::GET, path)).await
    }

    /// POST of JSON to a path.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        Answer::to(self.request(Method::POST, path).json(body)).await
    }

    /// DELETE of a path.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        Answer::to(self.request(Method::DELETE, path)).await
    }

    /// Creates an image whose size is not declared.
    pub async fn create_image(&self, path: ImagePath, format: ImageFormat) -> Result<Answer> {
        self.post("/user/images", &json!({ "path": path, "format": format })).await
    }

    /// Asks for a new form.
    pub async fn renew_form(&self, image_id: &str) -> Result<Answer> {
        Answer::to(self.request(Method::POST, &format!("/user/images/{image_id}/form"))).await
    }

    /// Uploads as the form says: POST of its fields and then the file, or PUT with its headers.
    pub async fn upload(&self, form: &Value, file: impl Into<Bytes>) -> Result<Answer> {
        let url = form["url"].as_str().with_context(|| format!("a form has a url: {form}"))?;
        let file: Bytes = file.into();
        let request = match form["method"].as_str() {
            Some("POST") => {
                let content_type = form["fields"]["Content-Type"].as_str().unwrap_or("application/octet-stream");
                self.http.post(url).multipart(multipart(pairs(&form["fields"])?, content_type, file)?)
            }
            Some("PUT") => {
                let request = pairs(&form["headers"])?
                    .into_iter()
                    .fold(self.http.put(url), |request, (name, value)| request.header(name, value));
                request.body(file)
            }
            _ => bail!("a form's method is POST or PUT: {form}"),
        };
        Answer::to(request).await
    }

    /// Creates an image, uploads the file, and returns the image's id. A refusal is an error.
    pub async fn create_and_upload(
        &self,
        path: ImagePath,
        format: ImageFormat,
        file: impl Into<Bytes>,
    ) -> Result<String> {
        let created = self.create_image(path, format).await?.expect_status(201)?;
        let uploaded = self.upload(created.form(), file).await?;
        if !(200..300).contains(&uploaded.status) {
            bail!("the upload is answered {}: {}", uploaded.status, String::from_utf8_lossy(&uploaded.body));
        }
        Ok(created.image_id().to_owned())
    }

    /// V1's stream route: `path`, then the file, in one request.
    pub async fn stream(&self, path: ImagePath, format: ImageFormat, file: impl Into<Bytes>) -> Result<Answer> {
        let form = multipart(vec![("path".to_owned(), path.to_string())], format.as_str(), file.into())?;
        Answer::to(self.request(Method::POST, "/user/images/upload").multipart(form)).await
    }

    /// Makes an image the caller's profile image.
    pub async fn link_profile(&self, image_id: &str) -> Result<Answer> {
        self.post("/user/users/profile-image", &json!({ "imageEntityId": image_id })).await
    }

    /// Removes the caller's profile image.
    pub async fn delete_profile(&self) -> Result<Answer> {
        self.delete("/user/users/profile-image").await
    }

    /// The caller.
    pub async fn me(&self) -> Result<Answer> {
        self.get("/user/users/me").await
    }

    /// Creates a competition.
    pub async fn create_competition(&self, title: &str) -> Result<Answer> {
        self.post("/admin/competitions", &json!({ "title": title })).await
    }

    /// A competition.
    pub async fn competition(&self, id: &str) -> Result<Answer> {
        self.get(&format!("/competitions/{id}")).await
    }

    /// Makes an image a competition's poster.
    pub async fn link_poster(&self, competition_id: &str, image_id: &str) -> Result<Answer> {
        let path = format!("/admin/competitions/{competition_id}/poster-image");
        self.post(&path, &json!({ "imageEntityId": image_id })).await
    }

    /// Creates a post with images.
    pub async fn create_post(&self, title: &str, content: &str, image_ids: &[impl AsRef<str>]) -> Result<Answer> {
        let image_ids: Vec<&str> = image_ids.iter().map(AsRef::as_ref).collect();
        let body = json!({ "title": title, "content": content, "imageEntityIds": image_ids });
        self.post("/user/posts", &body).await
    }

    /// A post.
    pub async fn read_post(&self, id: &str) -> Result<Answer> {
        self.get(&format!("/posts/{id}")).await
    }

    /// Deletes a post.
    pub async fn delete_post(&self, id: &str) -> Result<Answer> {
        self.delete(&format!("/user/posts/{id}")).await
    }

    /// Asks for an image; the answer is a redirect to its bytes.
    pub async fn read(&self, image_id: &str) -> Result<Answer> {
        self.get(&format!("/images/{image_id}")).await
    }

    /// An image's bytes: the redirect, followed without the token.
    pub async fn download(&self, image_id: &str) -> Result<Answer> {
        let redirect = self.read(image_id).await?.expect_status(302)?;
        Answer::to(self.http.get(redirect.header(LOCATION.as_str()))).await
    }

    /// The limits for uploads.
    pub async fn limits(&self) -> Result<Answer> {
        self.get("/limits").await
    }
}

/// The fields, and after them the file, as S3 asks for.
fn multipart(fields: Vec<(String, String)>, content_type: &str, file: Bytes) -> Result<Form> {
    let length = file.len() as u64;
    let file = Part::stream_with_length(file, length).file_name("image").mime_str(content_type)?;
    let form = fields.into_iter().fold(Form::new(), |form, (name, value)| form.text(name, value));
    Ok(form.part("file", file))
}

fn pairs(object: &Value) -> Result<Vec<(String, String)>> {
    let object = object.as_object().context("a form has fields or headers")?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let pairs = object.iter().map(|(name, value)| Some((name.clone(), text(value)?))).collect::<Option<_>>();
    pairs.context("a form's fields and headers are texts")
}
