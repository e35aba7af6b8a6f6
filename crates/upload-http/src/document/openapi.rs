//! The interface's document and the page that shows it.
//!
//! The document is built once, when the server starts, from the table of routes and the codes. Nothing in it depends on settings, so the
//! document in the repository is the one that the server serves. The page is Swagger UI from the binary: it loads nothing from other
//! servers, and its security policy would not allow that. utoipa's other pages load their scripts from a CDN. The build script of this
//! one downloads Swagger UI unless the feature `vendored` is set (<https://docs.rs/utoipa-swagger-ui>).
//!
//! The bundled DOMPurify has had vulnerabilities (<https://github.com/swagger-api/swagger-ui/issues/10929>). It sanitizes only the Markdown
//! of our own document: the page cannot be told by its address to load another one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use actix_web::{
    HttpResponse,
    http::header,
    web::{self, Data, Path},
};
use serde_json::json;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Components, Info, OpenApi, OpenApiBuilder, Paths, RefOr, Schema, Server,
        extensions::Extensions,
        info::LicenseBuilder,
        schema::AdditionalProperties,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
        tag::TagBuilder,
    },
};

use super::{endpoint::BEARER, schemas};
use crate::{ApiError, Code, Endpoint, Retry};

/// The text above the table of codes.
const DESCRIPTION: &str = "\
Create an image here, upload its file with the form in the answer, then link the image to a profile, a post or a competition. The \
form's `url` leads to the bucket or to this server. The link verifies the file. From then on anyone can read the image, and it never \
changes. A client works in the same way with every server of this interface.

The largest file, the lifetime of a form and similar limits are settings; `GET /limits` returns them.

Errors are problem documents (RFC 9457). Let your program decide by `code`, which never changes; `detail` is for people. If \
`retryable` is true, the same request may succeed later; `Retry-After`, if present, says when. Beside each answer, `x-problem-codes` \
lists the route's codes for that status.

Some answers are the same for every route and are not repeated there. An unknown path gives 404 `not_found`. A method that the route \
does not support gives 405 `method_not_allowed` with `Allow`. A stopping server can answer any request with 503 `shutting_down`. If \
the head of a request does not arrive or cannot be read, the answer is 400, 408 or 431 without a body. Every path answers CORS preflights.";
/// This project's license, as an SPDX expression.
const LICENSE: &str = env!("CARGO_PKG_LICENSE");
/// Codes that no route names, because any request can get them.
const ANYWHERE: [Code; 4] = [Code::NotFound, Code::MethodNotAllowed, Code::InternalError, Code::ShuttingDown];
/// What the page may load. The policy does not apply to styles that the page's script sets on elements. It does apply to images: those
/// in the style sheet are `data:` URLs.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The groups of routes, in the order of the page.
const TAGS: [(&str, &str); 5] = [
    ("Images", "Create an image, upload its file and read it."),
    ("Users", "Read the caller, and link an image to their profile."),
    ("Posts", "Create a post with images, read it and delete it."),
    ("Competitions", "Create a competition, link an image as its poster and read it."),
    ("Operations", "Limits for clients; health and metrics for operators."),
];

/// The table of a server's routes, and the document built from it.
pub(crate) struct Interface {
    endpoints: Vec<Endpoint>,
    document: Data<Document>,
}

/// As JSON.
struct Document(String);

/// The codes that some routes answer with another status than their own: those routes, each with its statuses.
type Elsewhere = BTreeMap<Code, BTreeMap<&'static str, BTreeSet<u16>>>;

impl Interface {
    /// The document calls this server by its strategy's name.
    pub(crate) fn new(strategy: &str, endpoints: Vec<Endpoint>) -> Result<Self, serde_json::Error> {
        let mut document = serde_json::to_string_pretty(&document(strategy, &endpoints))?;
        document.push('\n');
        Ok(Self { endpoints, document: Data::new(Document(document)) })
    }

    /// Serves every route of the table, the document and the page.
    pub(crate) fn configure(&self, config: &mut web::ServiceConfig) {
        let mut by_path: BTreeMap<&str, Vec<&Endpoint>> = BTreeMap::new();
        for endpoint in &self.endpoints {
            by_path.entry(endpoint.path()).or_default().push(endpoint);
        }
        for (path, endpoints) in by_path {
            let resource = web::resource(path);
            config.service(endpoints.into_iter().fold(resource, |resource, endpoint| endpoint.serve(resource)));
        }
        config
            .app_data(self.document.clone())
            .service(web::resource("/openapi.json").route(web::get().to(show)))
            .service(web::resource("/docs").route(web::get().to(redirect)))
            .service(web::resource("/docs/{file:.*}").route(web::get().to(page)));
    }
}

/// `GET /openapi.json`.
async fn show(document: Data<Document>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(document.0.clone())
}

/// `GET /docs`: a relative redirect, like the page's own links, because a proxy may serve everything under a path.
async fn redirect() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "docs/")).finish()
}

/// `GET /docs/…`: the page and what it loads.
async fn page(file: Path<String>) -> Result<HttpResponse, ApiError> {
    let config = utoipa_swagger_ui::Config::from("../openapi.json")
        .use_base_layout()
        .show_extensions(true)
        .default_models_expand_depth(0)
        .validator_url("none");
    let file =
        utoipa_swagger_ui::serve(&file, Arc::new(config)).map_err(|error| ApiError::internal(error.to_string()))?;
    let file = file.ok_or_else(|| ApiError::new(Code::NotFound, "There is no such page."))?;
    Ok(HttpResponse::Ok()
        .content_type(file.content_type)
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .body(file.bytes.into_owned()))
}

fn document(strategy: &str, endpoints: &[Endpoint]) -> OpenApi {
    let mut paths = Paths::new();
    for endpoint in endpoints {
        let (method, operation) = endpoint.document();
        paths.add_path_operation(endpoint.path(), vec![method], operation);
    }
    let mut codes: BTreeSet<Code> = endpoints.iter().flat_map(Endpoint::codes).collect();
    codes.extend(ANYWHERE);
    let elsewhere = elsewhere(endpoints);
    let tags = TAGS.map(|(name, description)| TagBuilder::new().name(name).description(Some(description)).build());
    let mut info = Info::new(format!("Image uploads, {strategy}"), env!("CARGO_PKG_VERSION").to_owned());
    info.description = Some(description(&codes, &elsewhere));
    info.license = Some(LicenseBuilder::new().name(LICENSE).identifier(Some(LICENSE)).build());
    let mut document = OpenApiBuilder::new()
        .info(info)
        // The server that the document was read from.
        .servers(Some([Server::new(".")]))
        .tags(Some(tags))
        .paths(paths)
        .components(Some(components(endpoints, &codes)))
        .build();
    let facts: serde_json::Value = codes.iter().map(|code| facts(*code, &elsewhere)).collect();
    document.extensions = Some(Extensions::from_iter([("x-codes", facts)]));
    document
}

fn elsewhere(endpoints: &[Endpoint]) -> Elsewhere {
    let mut elsewhere = Elsewhere::new();
    for endpoint in endpoints {
        for (code, status) in endpoint.other_statuses() {
            elsewhere.entry(code).or_default().entry(endpoint.path()).or_default().insert(status);
        }
    }
    elsewhere
}

fn components(endpoints: &[Endpoint], codes: &BTreeSet<Code>) -> Components {
    let mut components = Components::new();
    components.schemas = endpoints.iter().flat_map(Endpoint::schemas).collect();
    components.schemas.insert(schemas::Problem::name().into_owned(), schemas::Problem::schema());
    components.schemas.insert("ProblemCode".to_owned(), schemas::problem_code(codes.iter().copied()));
    components.schemas.values_mut().for_each(close);
    components.headers.extend(schemas::headers());
    components.responses.insert(schemas::ANYTHING_ELSE.to_owned(), schemas::anything_else().into());
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").description(Some(
        "Needs the claims `userId` (a UUID), `userRole`, `exp`, `iss` and `aud`, signed with the algorithm in the server's settings.",
    ));
    components.add_security_scheme(BEARER, SecurityScheme::Http(scheme.build()));
    components
}

/// Forbids members that an object's schema does not list.
fn close(schema: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::Object(object)) = schema
        && !object.properties.is_empty()
    {
        object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
        object.properties.values_mut().for_each(close);
    }
}

fn description(codes: &BTreeSet<Code>, elsewhere: &Elsewhere) -> String {
    let mut text = DESCRIPTION.to_owned();
    text.push_str("\n\n## Codes\n\n| code | status | meaning | what to do |\n|---|---|---|---|\n");
    for code in codes {
        let (mut statuses, meaning, advice) = (code.status().as_u16().to_string(), code.meaning(), code.advice());
        for (path, others) in elsewhere.get(code).into_iter().flatten() {
            others.iter().for_each(|status| statuses.push_str(&format!(", also {status} at `{path}`")));
        }
        text.push_str(&format!("| `{code}` | {statuses} | {meaning} | {advice} |\n"));
    }
    text
}

fn facts(code: Code, elsewhere: &Elsewhere) -> serde_json::Value {
    let mut facts = json!({
        "code": code.as_str(),
        "status": code.status().as_u16(),
        "retryable": code.retry() != Retry::Never,
        "meaning": code.meaning(),
        "advice": code.advice(),
    });
    if let Some(routes) = elsewhere.get(&code) {
        facts["elsewhere"] = json!(routes);
    }
    facts
}
