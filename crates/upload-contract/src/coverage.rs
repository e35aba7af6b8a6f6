//! Checks that `answers.txt` and the two interface documents in docs/ say the same. For each answer that a document promises, there is a
//! case that always hears it. Each answer that a case hears is in the document. These tests need no server: if a case hears an answer
//! that is not in the file, that case fails.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    CASES, Strategy,
    answers::{self, Mark, is_v1s_own},
    hearing::{NO_REQUEST, NO_ROUTE, Said},
    routes::{Documented, document, operations},
    shapes,
};

const BOTH: [(Strategy, &str); 2] = [(Strategy::Streaming, "v1"), (Strategy::Presigned, "v2")];

/// The cases in which the servers differ on a route that both have, each with the reason.
const STATED_DIFFERENCES: [(&str, &str); 6] = [
    ("bad_bodies::a_streamed_form_that_is_none_stores_nothing", "what V1's own route has taken is linked and read"),
    ("bad_bodies::a_form_that_ends_otherwise_than_foreseen_needs_the_length", "V2's store takes the form"),
    ("images::put_is_a_wish", "V2 signs a PUT, and needs its length; V1 always answers a POST"),
    ("images::put_can_be_the_only_way_to_the_store", "the same, without a wish"),
    ("outages::without_credentials_nothing_is_signed", "V1 signs its forms itself, V2 with the signer's key"),
    ("pinning::what_is_linked_by_version_stays_whatever_its_form_writes", "V2 signs a PUT; V1 always answers a POST"),
];

/// One server's document.
struct Document {
    name: String,
    strategy: Strategy,
    root: Value,
}

impl Document {
    fn both() -> [Self; 2] {
        BOTH.map(|(strategy, version)| {
            let name = format!("docs/openapi-{version}.json");
            Self { name, strategy, root: document(strategy) }
        })
    }

    /// The answers of every operation, each with its status.
    fn responses(&self) -> impl Iterator<Item = (String, &str, &Value)> {
        operations(&self.root).flat_map(|Documented { method, path, operation }| {
            let route = format!("{method} {path}");
            let responses = operation["responses"].as_object().into_iter().flatten();
            responses.map(move |(status, response)| (route.clone(), status.as_str(), response))
        })
    }

    /// The answers that the document promises: a status and, for a problem, its code.
    fn promises(&self) -> BTreeSet<(String, String)> {
        let mut promises = BTreeSet::new();
        for (route, status, response) in self.responses().filter(|(_route, status, _response)| *status != "default") {
            let codes = response["x-problem-codes"].as_array();
            for code in codes.into_iter().flatten() {
                promises.insert((route.clone(), format!("{status} {}", code.as_str().unwrap_or_default())));
            }
            let content = response["content"].as_object().into_iter().flatten();
            let types: Vec<&String> = content.map(|(media_type, _content)| media_type).collect();
            if types != ["application/problem+json"] {
                promises.insert((route, status.to_owned()));
            }
        }
        promises
    }

    /// The answers that the cases always hear from this server. A request that is not valid HTTP has no route, and its answer no body.
    fn heard(&self) -> BTreeSet<(String, String)> {
        let answers = answers::read().unwrap_or_else(|error| panic!("{error:#}"));
        let always = answers.iter().filter(|(_said, _case, mark)| mark.is_said_by(self.strategy));
        let always = always.filter(|(said, _case, _mark)| said.answer != "400 nothing");
        always.map(|(said, _case, _mark)| (said.route.clone(), in_short(said))).collect()
    }
}

/// A status and, for a problem, its code.
fn in_short(said: &Said) -> String {
    let (status, rest) = said.answer.split_once(' ').unwrap_or((&said.answer, ""));
    let code = rest.strip_suffix(" of an image").unwrap_or(rest);
    let is_code = code.contains('_') && code.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase());
    if status >= "400" && (is_code || code == "forbidden" || code == "overloaded") {
        format!("{status} {code}")
    } else {
        status.to_owned()
    }
}

fn list<'a>(answers: impl IntoIterator<Item = &'a (String, String)>) -> String {
    answers.into_iter().map(|(route, answer)| format!("\n    {route} {answer}")).collect()
}

#[test]
fn every_answer_that_a_document_promises_is_heard_by_a_case() {
    for document in Document::both() {
        let (promises, heard) = (document.promises(), document.heard());
        assert!(promises.len() > 100, "{} promises next to nothing", document.name);
        let missing: Vec<_> = promises.difference(&heard).collect();
        assert!(missing.is_empty(), "{} promises what no case hears:{}", document.name, list(missing));
    }
}

#[test]
fn every_answer_that_a_case_hears_is_promised_by_a_document() {
    for document in Document::both() {
        let promises = document.promises();
        let routes: BTreeSet<&String> = promises.iter().map(|(route, _answer)| route).collect();
        // A document promises nothing for requests that no operation takes.
        let heard: Vec<_> = document.heard().into_iter().filter(|(route, _answer)| routes.contains(route)).collect();
        let more: Vec<_> = heard.iter().filter(|answer| !promises.contains(*answer)).collect();
        assert!(more.is_empty(), "{} does not say what is answered:{}", document.name, list(more));
    }
}

#[test]
fn what_is_asked_of_no_operation_is_refused() {
    for document in Document::both() {
        let promises = document.promises();
        for (route, answer) in document.heard() {
            let no_operation = !promises.iter().any(|(promised, _answer)| *promised == route);
            let refused =
                ["404 not_found", "405 method_not_allowed", "415 unsupported_encoding"].contains(&answer.as_str());
            let preflight = route.starts_with("OPTIONS ") && ["200", "204", "400"].contains(&answer.as_str());
            let unreadable = (route == NO_REQUEST || route.ends_with(NO_ROUTE)) && answer.starts_with("4");
            assert!(!no_operation || refused || preflight || unreadable, "{}: {route} {answer}", document.name);
        }
    }
}

#[test]
fn every_body_has_the_shape_that_a_document_says() {
    let answers = answers::read().unwrap_or_else(|error| panic!("{error:#}"));
    for document in Document::both() {
        for (route, status, response) in document.responses() {
            let schema = &response["content"]["application/json"]["schema"];
            for (said, case, mark) in answers.iter().filter(|(said, _case, _mark)| said.route == route) {
                let shape =
                    said.answer.strip_prefix(status).map(str::trim_start).filter(|shape| shape.starts_with('{'));
                let Some(shape) = shape.filter(|_shape| mark == Mark::May || mark.is_said_by(document.strategy)) else {
                    continue;
                };
                let fits = shapes::fits(shape, schema, &document.root);
                assert!(fits.is_ok(), "{}: {case} hears from {route} {shape}, where {fits:?}", document.name);
            }
        }
    }
}

#[test]
fn the_file_names_no_case_that_is_gone() {
    let answers = answers::read().unwrap_or_else(|error| panic!("{error:#}"));
    let gone: BTreeSet<&str> =
        answers.iter().map(|(_said, case, _mark)| case).filter(|case| !CASES.contains(case)).collect();
    assert!(gone.is_empty(), "answers.txt names cases that are gone; remove their lines: {gone:?}");
}

#[test]
fn the_servers_differ_only_where_that_is_said() {
    let answers = answers::read().unwrap_or_else(|error| panic!("{error:#}"));
    let differs =
        answers.iter().filter(|(said, _case, mark)| matches!(mark, Mark::Only(_)) && !is_v1s_own(&said.route));
    let cases: BTreeSet<&str> = differs.map(|(_said, case, _mark)| case).collect();
    assert_eq!(cases, STATED_DIFFERENCES.iter().map(|(case, _why)| *case).collect());
}
