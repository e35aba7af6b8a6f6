//! Schemas that no struct of this crate can derive: the domain's enumerations and ids, and what answers have in common. The domain
//! does not depend on utoipa, so this module names its enumerations and takes the values from there.

use actix_web::http::StatusCode;
use serde_json::json;
use upload_domain as domain;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Content, Header, KnownFormat, Object, ObjectBuilder, OneOfBuilder, Ref, RefOr, Response, Schema, SchemaFormat,
        Type, schema::AdditionalProperties,
    },
};

use super::header;
pub(crate) use crate::error::Problem;
use crate::{Code, FormMethod, Retry};

/// Where every answer carries its request's id.
pub(crate) const REQUEST_ID: &str = "X-Request-Id";
/// When to try again.
pub(crate) const RETRY_AFTER: &str = "Retry-After";
/// The challenge for a caller without a valid token.
pub(crate) const CHALLENGE: &str = "WWW-Authenticate";
/// The answer that no route declares for itself.
pub(crate) const ANYTHING_ELSE: &str = "AnythingElse";

macro_rules! words {
    ($($(#[$meta:meta])* $name:ident),+) => {$(
        $(#[$meta])*
        pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let words = domain::$name::ALL.iter().map(|word| word.as_str());
                ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).into()
            }
        }

        impl ToSchema for $name {}
    )+};
}

words!(
    /// What an image is for.
    ImagePath,
    /// How an image is encoded.
    ImageFormat,
    /// What a user may do.
    Role,
    /// Whether a user may act at all.
    UserStatus
);

/// A form to send by POST.
pub(crate) struct PostForm;

/// A form to send by PUT.
pub(crate) struct PutForm;

/// The codes of a server: [`problem_code`] says which.
pub(crate) struct ProblemCode;

/// The file of a multipart form.
pub struct FilePart;

impl PartialSchema for PostForm {
    fn schema() -> RefOr<Schema> {
        form(
            FormMethod::Post,
            "fields",
            "Send these as `multipart/form-data`, in this order, and then the file as `file`.",
        )
    }
}

impl ToSchema for PostForm {}

impl PartialSchema for PutForm {
    fn schema() -> RefOr<Schema> {
        form(FormMethod::Put, "headers", "Send the file as the body, with exactly these headers.")
    }
}

impl ToSchema for PutForm {}

impl PartialSchema for crate::PresignedForm {
    fn schema() -> RefOr<Schema> {
        let description =
            "How and where to upload the file, and until when. Use this `method`, even if you asked for another one.";
        let forms = OneOfBuilder::new().item(Ref::from_schema_name("PostForm")).item(Ref::from_schema_name("PutForm"));
        forms.description(Some(description)).into()
    }
}

impl ToSchema for crate::PresignedForm {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((PostForm::name().into_owned(), PostForm::schema()));
        schemas.push((PutForm::name().into_owned(), PutForm::schema()));
    }
}

impl PartialSchema for FilePart {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).content_media_type("application/octet-stream").into()
    }
}

impl ToSchema for FilePart {}

impl PartialSchema for ProblemCode {
    fn schema() -> RefOr<Schema> {
        problem_code(Code::ALL.iter().copied())
    }
}

impl ToSchema for ProblemCode {}

fn form(method: FormMethod, member: &str, description: &str) -> RefOr<Schema> {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let pairs = ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(description))
        .additional_properties(Some(AdditionalProperties::from(RefOr::from(text().build()))));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("method", text().enum_values(Some([method.as_str()])))
        .property("url", text().format(Some(uri_format())))
        .property(member, pairs)
        .property("expiresAt", text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))))
        .required("method")
        .required("url")
        .required(member)
        .required("expiresAt")
        .into()
}

/// An id in a path.
pub(crate) fn uuid() -> RefOr<Schema> {
    string(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
}

/// A text with a minimum and a maximum number of characters, and without U+0000, which Postgres cannot store.
pub(crate) fn bounded_text(least: usize, most: usize) -> Object {
    let text = ObjectBuilder::new().schema_type(Type::String).min_length(Some(least)).max_length(Some(most));
    text.pattern(Some(r"^[^\u0000]*$")).build()
}

/// A text.
pub fn text() -> RefOr<Schema> {
    string(None)
}

/// A text that is a URI.
pub fn uri() -> RefOr<Schema> {
    string(Some(uri_format()))
}

/// The codes that a server can answer.
pub(crate) fn problem_code(codes: impl Iterator<Item = Code>) -> RefOr<Schema> {
    let words = codes.map(Code::as_str);
    let description = "What went wrong. The table at the top says what each code means and what to do.";
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).description(Some(description)).into()
}

pub(crate) fn problem_example(status: u16, code: Code) -> serde_json::Value {
    json!({
        "type": "about:blank",
        "title": StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()),
        "status": status,
        "code": code,
        "detail": code.meaning(),
        "requestId": "0199a0c4-6b1d-7f00-8c2e-5d3f4a1b9e07",
        "retryable": code.retry() != Retry::Never,
    })
}

/// Headers that many answers have, by name.
pub(crate) fn headers() -> [(String, RefOr<Header>); 3] {
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    let headers = [
        (REQUEST_ID, header(text(), "The request's id, which the server's log also has.")),
        (RETRY_AFTER, header(seconds, "After how many seconds to try again. Not every code has it.")),
        (CHALLENGE, header(text(), "`Bearer` (RFC 6750).")),
    ];
    headers.map(|(name, header)| (name.to_owned(), header.into()))
}

/// One of [`headers`].
pub(crate) fn header_reference(name: &str) -> RefOr<Header> {
    RefOr::Ref(Ref::new(format!("#/components/headers/{name}")))
}

/// The errors that every request can get, under the name [`ANYTHING_ELSE`].
pub(crate) fn anything_else() -> Response {
    let problem = Content::new(Some(Ref::from_schema_name(Problem::name())));
    let description = "Errors that any request can get, such as 500 `internal_error`.";
    let mut response = Response::new(description);
    response.content.insert("application/problem+json".to_owned(), problem.into());
    response.headers.insert(REQUEST_ID.to_owned(), header_reference(REQUEST_ID));
    response
}

fn string(format: Option<SchemaFormat>) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).format(format).into()
}

fn uri_format() -> SchemaFormat {
    SchemaFormat::Custom("uri".to_owned())
}
