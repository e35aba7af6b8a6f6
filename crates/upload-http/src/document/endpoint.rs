//! One entry of a server's table of routes, with its handler and its description in the OpenAPI document. Routes and document
//! are built from the same table, so they always agree.

use std::collections::{BTreeMap, BTreeSet};

use actix_web::{
    Resource, Route,
    http::{Method, StatusCode},
    web,
};
use serde_json::{Value, json};
use upload_domain::ImageFormat;
use utoipa::{
    ToSchema,
    openapi::{
        Content, ContentBuilder, Header, HeaderBuilder, HttpMethod, Ref, RefOr, Required, Response, ResponseBuilder,
        Responses, Schema, SecurityRequirement,
        encoding::EncodingBuilder,
        extensions::Extensions,
        path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
        request_body::{RequestBody, RequestBodyBuilder},
    },
};

use super::schemas;
use crate::{Code, Retry};

/// The security scheme of the routes that want a caller.
pub(crate) const BEARER: &str = "bearer";
/// Which codes a route answers with a status.
const CODES: &str = "x-problem-codes";

/// The errors of every route that uses the database.
const DATABASE: &[Code] = &[Code::Overloaded, Code::DatabaseUnavailable, Code::ShuttingDown];
/// The errors of every route that takes JSON, for a missing or wrong body.
const JSON: &[Code] = &[Code::InvalidRequest, Code::BodyTimeout, Code::PayloadTooLarge, Code::UnsupportedMediaType];

/// A route.
#[derive(Clone)]
pub struct Endpoint {
    method: Method,
    path: &'static str,
    handler: fn(Route) -> Route,
    operation: Operation,
}

/// A route's description in the OpenAPI document.
#[derive(Clone)]
pub struct Operation {
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    description: Option<String>,
    bearer: bool,
    query: Vec<Parameter>,
    body: Option<RequestBody>,
    answers: BTreeMap<u16, Response>,
    refusals: BTreeMap<u16, BTreeSet<Code>>,
    schemas: Vec<(String, RefOr<Schema>)>,
}

impl Endpoint {
    /// A route for GET; `handler` is `|route| route.to(…)`.
    pub fn get(path: &'static str, handler: fn(Route) -> Route, operation: Operation) -> Self {
        Self { method: Method::GET, path, handler, operation }
    }

    /// A route for POST.
    pub fn post(path: &'static str, handler: fn(Route) -> Route, operation: Operation) -> Self {
        Self { method: Method::POST, path, handler, operation }
    }

    /// A route for DELETE.
    pub fn delete(path: &'static str, handler: fn(Route) -> Route, operation: Operation) -> Self {
        Self { method: Method::DELETE, path, handler, operation }
    }

    pub(crate) fn path(&self) -> &'static str {
        self.path
    }

    pub(crate) fn serve(&self, resource: Resource) -> Resource {
        resource.route((self.handler)(web::method(self.method.clone())))
    }

    /// The operation for the OpenAPI document.
    pub(crate) fn document(&self) -> (HttpMethod, utoipa::openapi::path::Operation) {
        let method = match self.method {
            Method::POST => HttpMethod::Post,
            Method::DELETE => HttpMethod::Delete,
            _ => HttpMethod::Get,
        };
        (method, self.operation.document(self.path))
    }

    /// The schemas that the operation refers to.
    pub(crate) fn schemas(&self) -> impl Iterator<Item = (String, RefOr<Schema>)> {
        self.operation.schemas.iter().cloned()
    }

    /// Every code that the operation names.
    pub(crate) fn codes(&self) -> impl Iterator<Item = Code> {
        self.operation.refusals.values().flatten().copied()
    }

    /// The codes that the operation answers with another status than their own, each with that status.
    pub(crate) fn other_statuses(&self) -> impl Iterator<Item = (Code, u16)> {
        let refusals = self.operation.refusals.iter();
        let codes = refusals.flat_map(|(status, codes)| codes.iter().map(move |code| (*code, *status)));
        codes.filter(|(code, status)| code.status().as_u16() != *status)
    }
}

impl Operation {
    /// An operation with a name for generated clients, in a group, and with a heading.
    pub fn new(tag: &'static str, id: &'static str, summary: &'static str) -> Self {
        let operation = Self {
            id,
            tag,
            summary,
            description: None,
            bearer: false,
            query: Vec::new(),
            body: None,
            answers: BTreeMap::new(),
            refusals: BTreeMap::new(),
            schemas: Vec::new(),
        };
        operation.refuses(&[Code::UnsupportedEncoding])
    }

    /// More than the heading says, in Markdown.
    pub fn description(self, description: impl Into<String>) -> Self {
        Self { description: Some(description.into()), ..self }
    }

    /// It wants a caller's token, and the caller's account or a rate limit may not allow it.
    pub fn bearer(self) -> Self {
        Self { bearer: true, ..self }.refuses(&[Code::InvalidToken, Code::Forbidden, Code::RateLimited])
    }

    /// It needs this text in its URL's query.
    pub fn query(mut self, name: &'static str, description: &'static str) -> Self {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Query)
            .required(Required::True)
            .description(Some(description))
            .schema(Some(schemas::text()));
        self.query.push(parameter.build());
        self
    }

    /// It asks the database.
    pub fn database(self) -> Self {
        self.refuses(DATABASE)
    }

    /// It takes JSON; each example has a name.
    pub fn json<T: ToSchema>(self, examples: &[(&str, Value)]) -> Self {
        let examples = examples.iter().map(|(name, value)| (*name, example(value)));
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(T::name()))).examples_from_iter(examples);
        let body =
            RequestBodyBuilder::new().required(Some(Required::True)).content("application/json", content.build());
        Self { body: Some(body.build()), ..self }.refuses(JSON).with_schema::<T>()
    }

    /// It takes a form whose last part is the file, of one of the image formats.
    pub fn form<T: ToSchema>(self, description: &'static str, example: Value) -> Self {
        let file = EncodingBuilder::new().content_type(Some(ImageFormat::WORDS));
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name(T::name())))
            .encoding("file", file.build())
            .example(Some(example));
        let body = RequestBodyBuilder::new()
            .description(Some(description))
            .required(Some(Required::True))
            .content("multipart/form-data", content.build());
        Self { body: Some(body.build()), ..self }.with_schema::<T>()
    }

    /// It answers with JSON.
    pub fn answers<T: ToSchema>(self, status: StatusCode, description: &'static str) -> Self {
        let content = Content::new(Some(Ref::from_schema_name(T::name())));
        let response = ResponseBuilder::new().description(description).content("application/json", content);
        self.answers_with(status, response.build()).with_schema::<T>()
    }

    /// It answers with something else than JSON, or with nothing.
    pub fn answers_with(mut self, status: StatusCode, response: Response) -> Self {
        self.answers.insert(status.as_u16(), response);
        self
    }

    /// The answer with this status has a header.
    pub fn header(mut self, status: StatusCode, name: &'static str, header: Header) -> Self {
        if let Some(response) = self.answers.get_mut(&status.as_u16()) {
            response.headers.insert(name.to_owned(), header.into());
        }
        self
    }

    /// It can answer these codes, with their own statuses.
    pub fn refuses(mut self, codes: &[Code]) -> Self {
        for code in codes {
            self.refusals.entry(code.status().as_u16()).or_default().insert(*code);
        }
        self
    }

    /// It can answer these codes with this status.
    pub fn refuses_with(mut self, status: StatusCode, codes: &[Code]) -> Self {
        self.refusals.entry(status.as_u16()).or_default().extend(codes);
        self
    }

    fn with_schema<T: ToSchema>(mut self) -> Self {
        self.schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(&mut self.schemas);
        self
    }

    fn document(&self, path: &str) -> utoipa::openapi::path::Operation {
        let parameters = path_parameters(path);
        let mut refusals = self.refusals.clone();
        if !parameters.is_empty() {
            refusals.entry(StatusCode::NOT_FOUND.as_u16()).or_default().insert(Code::NotFound);
        }
        let mut answers = self.answers.clone();
        for (status, codes) in &refusals {
            refuse(answers.entry(*status).or_default(), *status, codes);
        }
        let answers = answers.into_iter().map(|(status, mut response)| {
            add_header(&mut response, schemas::REQUEST_ID);
            (status.to_string(), RefOr::T(response))
        });
        let anything_else = Ref::new(format!("#/components/responses/{}", schemas::ANYTHING_ELSE));
        let operation = OperationBuilder::new()
            .operation_id(Some(self.id))
            .tag(self.tag)
            .summary(Some(self.summary))
            .description(self.description.clone())
            .request_body(self.body.clone())
            .responses(Responses::from_iter(answers))
            .response("default", anything_else);
        let parameters = parameters.into_iter().chain(self.query.iter().cloned());
        let operation = parameters.fold(operation, OperationBuilder::parameter);
        let caller = self.bearer.then(|| SecurityRequirement::new::<_, [&str; 0], &str>(BEARER, []));
        operation.securities(Some(caller)).build()
    }
}

/// A header of an answer.
pub fn header(schema: impl Into<RefOr<Schema>>, description: &'static str) -> Header {
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}

/// Adds a problem document to an answer.
fn refuse(response: &mut Response, status: u16, codes: &BTreeSet<Code>) {
    let words: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
    if response.description.is_empty() {
        response.description = words.join(", ");
    }
    let problem = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(schemas::Problem::name())))
        .example(codes.first().map(|code| schemas::problem_example(status, *code)));
    response.content.insert("application/problem+json".to_owned(), problem.build().into());
    if codes.iter().any(|code| matches!(code.retry(), Retry::AfterSeconds(_))) {
        add_header(response, schemas::RETRY_AFTER);
    }
    if codes.contains(&Code::InvalidToken) {
        add_header(response, schemas::CHALLENGE);
    }
    response.extensions = Some(Extensions::from_iter([(CODES, json!(words))]));
}

fn add_header(response: &mut Response, name: &str) {
    response.headers.insert(name.to_owned(), schemas::header_reference(name));
}

/// Every variable part of a path is an id.
fn path_parameters(path: &str) -> Vec<Parameter> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameter = |name| {
        let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path).required(Required::True);
        parameter.schema(Some(schemas::uuid())).build()
    };
    names.map(parameter).collect()
}

fn example(value: &Value) -> utoipa::openapi::example::Example {
    utoipa::openapi::example::ExampleBuilder::new().value(Some(value.clone())).build()
}
