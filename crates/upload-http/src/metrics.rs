//! Counters and times for Prometheus. The registry is a value in the application's data: a global recorder would mix two
//! servers in one process. Labels are taken from closed sets, so that no client can make new series.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use upload_link::Event;

/// Seconds, from a form's signature to a slow upload.
const SECONDS: [f64; 12] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0, 60.0];

/// What both servers count.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    own: Own,
}

/// The metrics of this crate, before the registry is closed.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
    links: Counter,
    refused: Family<CodeLabels, Counter>,
    pub(crate) uploads_active: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: String,
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

impl Own {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let durations = Family::new_with_constructor((|| Histogram::new(SECONDS)) as fn() -> Histogram);
        let own = Self {
            requests: Family::default(),
            durations,
            links: Counter::default(),
            refused: Family::default(),
            uploads_active: Gauge::default(),
        };
        registry.register("http_requests", "Requests answered", own.requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "From a request's head to its answer's head",
            Unit::Seconds,
            own.durations.clone(),
        );
        registry.register("image_links", "Images linked", own.links.clone());
        registry.register("image_refusals", "Bodies refused for their content at link", own.refused.clone());
        registry.register("uploads_active", "Uploads that this server carries now", own.uploads_active.clone());
        own
    }
}

impl Own {
    /// Counts what the link protocol did.
    pub(crate) fn observe(&self, event: Event) {
        match event {
            Event::Linked => self.links.inc(),
            Event::Refused(refusal) => self.refused.get_or_create(&CodeLabels { code: refusal.as_str() }).inc(),
        };
    }
}

impl Metrics {
    pub(crate) fn new(registry: Registry, own: Own) -> Self {
        Self { registry: Arc::new(registry), own }
    }

    pub(crate) fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        let (method, route) = (method.to_owned(), route.to_owned());
        let labels = RouteLabels { method: method.clone(), route: route.clone() };
        self.own.durations.get_or_create(&labels).observe(took.as_secs_f64());
        self.own.requests.get_or_create(&RequestLabels { method, route, status }).inc();
    }

    /// Everything registered, as OpenMetrics text.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
