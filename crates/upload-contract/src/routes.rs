//! The routes as a table, for rules that are the same on all of them.

use std::fs;

use anyhow::Result;
use futures::future::try_join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use upload_domain::{ImageFormat, ImagePath, Role};
use upload_sandbox::client::{Answer, Client};

use super::{
    subject::{Member, Strategy, Subject, text},
    uploads,
};

/// A route and a method, as a server's document describes them.
pub(super) struct Documented<'a> {
    /// In capitals.
    pub(super) method: String,
    /// With `{id}` in place of an id.
    pub(super) path: &'a str,
    /// The document's description of the operation.
    pub(super) operation: &'a Value,
}

/// A user who may do everything, with one thing of each kind.
pub(super) struct Household {
    pub(super) admin: Member,
    pub(super) competition: String,
    pub(super) post: String,
    /// A pending image, and its form.
    pub(super) image: String,
    pub(super) form: Value,
}

/// One request that the server would serve.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Option<Value>,
    /// Whether the route wants a token.
    pub(super) caller: bool,
}

/// A server's document in docs/.
pub(super) fn document(strategy: Strategy) -> Value {
    let version = if strategy == Strategy::Streaming { "v1" } else { "v2" };
    let path = format!("{}/../../docs/openapi-{version}.json", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path} cannot be read: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path} is no JSON: {error}"))
}

/// Every operation of a document, in URL order.
pub(super) fn operations(document: &Value) -> impl Iterator<Item = Documented<'_>> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, item)| {
        let operations = item.as_object().into_iter().flatten();
        operations.map(move |(method, operation)| Documented { method: method.to_uppercase(), path, operation })
    })
}

impl Household {
    pub(super) async fn new(subject: &Subject) -> Result<Self> {
        let admin = subject.member(Role::Admin).await?;
        let competition = admin.competition_of_ones_own().await?;
        let created = admin.create_post("Title", "", &[""; 0]).await?.expect_status(201)?;
        let post = text(&created.json["post"]["id"]).to_owned();
        let (image, form) = uploads::new_form(&admin.client).await?;
        Ok(Self { admin, competition, post, image, form })
    }

    /// A request that the server would serve for every route that asks the database, in URL order.
    pub(super) fn calls(&self) -> Vec<Call> {
        let Self { competition, post, image, .. } = self;
        let link = json!({ "imageEntityId": image });
        let call = |method: Method, path: &str, body: Option<Value>| Call {
            caller: path.starts_with("/user") || path.starts_with("/admin"),
            method,
            path: path.to_owned(),
            body,
        };
        let get = |path: &str| call(Method::GET, path, None);
        let post_of = |path: &str, body: &Value| call(Method::POST, path, Some(body.clone()));
        let delete = |path: &str| call(Method::DELETE, path, None);
        vec![
            post_of("/admin/competitions", &json!({ "title": "Open" })),
            post_of(&format!("/admin/competitions/{competition}/poster-image"), &link),
            get(&format!("/competitions/{competition}")),
            get(&format!("/images/{image}")),
            get(&format!("/posts/{post}")),
            post_of("/user/images", &json!({ "path": "post", "format": "image/png" })),
            call(Method::POST, &format!("/user/images/{image}/form"), None),
            post_of("/user/posts", &json!({ "title": "Title", "content": "", "imageEntityIds": [image] })),
            delete(&format!("/user/posts/{post}")),
            get("/user/users/me"),
            post_of("/user/users/profile-image", &link),
            delete("/user/users/profile-image"),
        ]
    }

    /// Sends all of these at the same time to one server and, for V1, also its own uploads. Returns each request's name and its answer.
    pub(super) async fn all_at_once(&self, subject: &Subject, url: &str) -> Result<Vec<(String, Answer)>> {
        let client = self.admin.client.at(url);
        let calls = self.calls();
        let shared = try_join_all(calls.iter().map(|call| call.send(&client)));
        let own = self.own_uploads(subject, url, super::subject::picture(1));
        let (shared, own) = futures::try_join!(shared, own)?;
        let named = calls.into_iter().map(|call| format!("{} {}", call.method, call.path)).zip(shared);
        Ok(named.chain(own).collect())
    }

    /// Uploads the file by V1's two routes; does nothing for V2.
    pub(super) async fn own_uploads(
        &self,
        subject: &Subject,
        url: &str,
        file: Vec<u8>,
    ) -> Result<Vec<(String, Answer)>> {
        if subject.strategy == Strategy::Presigned {
            return Ok(Vec::new());
        }
        let client = self.admin.client.at(url);
        // The form was made by another server of the same deployment.
        let mut form = self.form.clone();
        let ticket = text(&form["url"]).split_once('?').map_or("", |(_url, ticket)| ticket).to_owned();
        form["url"] = json!(format!("{url}/uploads?{ticket}"));
        let (streamed, uploaded) = futures::try_join!(
            client.stream(ImagePath::UserProfile, ImageFormat::Png, file.clone()),
            client.upload(&form, file.clone())
        )?;
        Ok(vec![("the stream route".to_owned(), streamed), ("the form's route".to_owned(), uploaded)])
    }
}

impl Call {
    /// The request without a body.
    pub(super) fn bare(&self, client: &Client) -> RequestBuilder {
        client.request(self.method.clone(), &self.path)
    }

    pub(super) async fn send(&self, client: &Client) -> Result<Answer> {
        let request = self.bare(client);
        client.send(self.body.iter().fold(request, |request, body| request.json(body))).await
    }
}
