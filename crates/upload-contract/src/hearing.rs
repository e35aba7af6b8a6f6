//! Records every answer that a case hears from the server under test. The suite's clients pass each answer on when they read it, so no
//! case can forget one. The sandbox's client calls an observer, and knows nothing of the suite.
//!
//! A case and its tasks run on one thread, so the records belong to that thread. Outside of a case nothing is recorded.

use std::{cell::RefCell, collections::BTreeSet, sync::LazyLock};

use serde_json::Value;
use upload_sandbox::client::{self, Answer};
use url::Url;

use super::{
    Strategy,
    routes::{document, operations},
};

/// Every route of both servers, in URL order. V1's document has V2's routes, too. Both lack the document's own route and its page.
static ROUTES: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let document = document(Strategy::Streaming);
    operations(&document).map(|route| route.path).chain(["/docs", "/openapi.json"]).map(str::to_owned).collect()
});

/// Stands for a path that no route takes.
pub(super) const NO_ROUTE: &str = "(no route)";

/// Stands for bytes that have no readable request line, or whose method does not exist.
pub(super) const NO_REQUEST: &str = "(no request)";

/// The length of the longest method, in bytes.
const LONGEST_METHOD: usize = 7;

/// Objects whose members depend on the store or the strategy. The client passes them on without reading them.
const HANDED_ON: [&str; 2] = ["fields", "headers"];

thread_local! {
    static HEARD: RefCell<Option<Vec<Heard>>> = const { RefCell::new(None) };
}

/// One answer, and the request that it answers.
#[derive(Debug, Clone)]
struct Heard {
    authority: String,
    method: String,
    path: String,
    status: u16,
    said: String,
}

/// One kind of answer: its route, its status, and its code or shape.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Said {
    /// The method and the route, such as `GET /posts/{id}`.
    pub(super) route: String,
    /// The status and, for a problem, its code; otherwise the body's shape.
    pub(super) answer: String,
}

/// Begins to record the answers that this thread hears.
pub(super) fn begin() {
    client::observe(note);
    HEARD.set(Some(Vec::new()));
}

/// Ends the recording and returns the answers of the servers at these URLs. (A form may lead to a store, which is not under test.)
pub(super) fn end(servers: &[String]) -> BTreeSet<Said> {
    let servers: Vec<String> = servers.iter().filter_map(|url| Some(authority(&Url::parse(url).ok()?))).collect();
    let heard = HEARD.take().unwrap_or_default();
    heard.into_iter().filter(|heard| servers.contains(&heard.authority)).map(Said::from).collect()
}

/// Records an answer to a request.
fn note(method: &str, url: &Url, answer: &Answer) {
    HEARD.with_borrow_mut(|heard| {
        let Some(heard) = heard else { return };
        heard.push(Heard {
            authority: authority(url),
            method: method.to_owned(),
            path: url.path().to_owned(),
            status: answer.status,
            said: said(answer),
        });
    });
}

/// Records an answer to bytes that may not be a request.
pub(super) fn note_bytes(bytes: &[u8], url: &Url, answer: &Answer) {
    let line = bytes.split(|byte| *byte == b'\r').next().and_then(|line| std::str::from_utf8(line).ok());
    let words: Vec<&str> = line.unwrap_or_default().split(' ').collect();
    match words.as_slice() {
        [method, target, "HTTP/1.1"] if method.len() <= LONGEST_METHOD && target.starts_with('/') => {
            let mut asked = url.clone();
            asked.set_path(target.split('?').next().unwrap_or_default());
            note(method, &asked, answer);
        }
        _ => note("", url, answer),
    }
}

fn authority(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

impl From<Heard> for Said {
    fn from(heard: Heard) -> Self {
        let route = match heard.method.as_str() {
            "" => NO_REQUEST.to_owned(),
            method => format!("{method} {}", route_of(&heard.path)),
        };
        Self { route, answer: format!("{} {}", heard.status, heard.said) }
    }
}

/// The route that takes a path. A literal route comes before one with a parameter.
fn route_of(path: &str) -> &'static str {
    let parts: Vec<&str> = path.split('/').collect();
    let takes = |route: &&str| {
        let route: Vec<&str> = route.split('/').collect();
        let fits = |(wanted, part): (&&str, &&str)| wanted == part || *wanted == "{id}" && !part.is_empty();
        route.len() == parts.len() && route.iter().zip(&parts).all(fits)
    };
    ROUTES.iter().map(String::as_str).find(takes).unwrap_or(NO_ROUTE)
}

/// An answer's content, without the parts that differ from one request to the next.
fn said(answer: &Answer) -> String {
    let media_type = answer.header("content-type").split(';').next().unwrap_or_default().trim();
    match media_type {
        _ if answer.body.is_empty() => "nothing".to_owned(),
        "application/problem+json" if answer.json["imageEntityId"].is_string() => {
            format!("{} of an image", answer.code())
        }
        "application/problem+json" => answer.code().to_owned(),
        // The document is compared with its own file.
        "application/json" if answer.json["openapi"].is_string() => "the OpenAPI document".to_owned(),
        "application/json" => shape(&answer.json),
        "" => "something".to_owned(),
        other => other.to_owned(),
    }
}

/// The names in a value, sorted, and the types of all values except texts.
fn shape(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "boolean".to_owned(),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "text".to_owned(),
        Value::Array(items) => {
            let kinds: BTreeSet<String> = items.iter().map(shape).collect();
            format!("[{}]", kinds.into_iter().collect::<Vec<_>>().join(" | "))
        }
        Value::Object(members) => {
            let mut members: Vec<String> = members.iter().map(|(name, value)| member(name, value)).collect();
            members.sort_unstable();
            format!("{{{}}}", members.join(", "))
        }
    }
}

fn member(name: &str, value: &Value) -> String {
    match value {
        Value::String(_) => name.to_owned(),
        Value::Object(_) if HANDED_ON.contains(&name) => format!("{name}: {{…}}"),
        _ => format!("{name}: {}", shape(value)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_belongs_to_the_route_that_takes_it() {
        for (path, route) in [
            ("/user/images", "/user/images"),
            ("/user/images/upload", "/user/images/upload"),
            ("/user/images/x/form", "/user/images/{id}/form"),
            ("/images/018f4f3e-7a50-7000-8000-000000000001", "/images/{id}"),
            ("/images/", NO_ROUTE),
            ("/user/images/x", NO_ROUTE),
            ("/", NO_ROUTE),
        ] {
            assert_eq!(route_of(path), route, "{path}");
        }
    }

    #[test]
    fn a_shape_has_names_and_types_and_no_values() {
        let value = json!({ "b": [{ "id": "x" }, { "id": "y" }, null], "a": null, "fields": { "key": "x" }, "c": 1 });
        assert_eq!(shape(&value), "{a: null, b: [null | {id}], c: number, fields: {…}}");
    }
}
