//! The interface's document and the page that shows it.
//!
//! The document is made once, when the server starts, of the table of routes and of the codes; nothing in it depends on settings, so
//! that the one that is checked in is the one that is served. The page is Swagger UI, out of the binary: it loads nothing from
//! anywhere else, and its security policy would not let it. utoipa's other pages load their scripts from a CDN, and this one's build
//! script downloads, but for the feature `vendored` (<https://docs.rs/utoipa-swagger-ui>).
//!
//! The bundled DOMPurify has had holes (<https://github.com/swagger-api/swagger-ui/issues/10929>): it cleans the Markdown of the document,
//! which is ours alone, as the page takes no other document from its address.

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

/// What stands above the codes.
const DESCRIPTION: &str = "\
An image is created here, uploaded where the answer's form says (the bucket, or this server), and linked to what it belongs to. The link \
verifies the file; from then on it can be read, and it never changes. A client does the same with every server of this interface.

How large a file may be, how long a form may be used and the like are settings: `GET /limits` tells them.

An error is a problem document (RFC 9457). Programs decide by its `code`, which never changes; `detail` is for people. `retryable` says \
that the same request may succeed later, and `Retry-After`, where there is one, says when. Beside each answer `x-problem-codes` \
lists the codes that this route has for this status. Not said again at each route: an unknown path is 404 `not_found`, another method \
405 `method_not_allowed` with `Allow`; a stopping server may answer 503 `shutting_down` to anything; a head that does not come, or \
cannot be read, is 400, 408 or 431 without a body. CORS preflights are answered on every path.";
/// Our own, as SPDX spells it.
const LICENSE: &str = env!("CARGO_PKG_LICENSE");
/// Codes that no route names, because any request can get them.
const ANYWHERE: [Code; 4] = [Code::NotFound, Code::MethodNotAllowed, Code::InternalError, Code::ShuttingDown];
/// What the page may load. Styles that its script sets on elements are not the policy's business; images are, and those in its style
/// sheet are data.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The groups of routes, in the order of the page.
const TAGS: [(&str, &str); 5] = [
    ("Images", "Create an image, upload its file, read it."),
    ("Users", "The caller, and linking an image to their profile."),
    ("Posts", "Linking images to a post."),
    ("Competitions", "Linking an image to a competition, as its poster."),
    ("Operations", "What a client can know beforehand, and what operators ask."),
];

/// The table of a server's routes, and the document made of it.
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

/// `GET /docs`: the page's own links are relative, and so is this one, as a proxy may serve all of it under a path.
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
    let file = file.ok_or_else(|| ApiError::new(Code::NotFound, "There is nothing here."))?;
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
        // Wherever the document was read from.
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
        "Claims `userId` (a UUID), `userRole`, `exp`, `iss`, `aud`; signed as the deployer has pinned it.",
    ));
    components.add_security_scheme(BEARER, SecurityScheme::Http(scheme.build()));
    components
}

/// No object has members that are not listed.
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
    text.push_str("\n\n## Codes\n\n| code | status | it means | what to do |\n|---|---|---|---|\n");
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
