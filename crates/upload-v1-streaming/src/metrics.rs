//! What V1 counts beside what both servers count.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

/// V1's own metrics.
pub struct Metrics {
    waiting: Gauge,
    uploads: Family<WayLabels, Counter>,
    bytes: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WayLabels {
    way: &'static str,
}

/// One upload that waits for its turn, until dropped.
pub struct Waiting(Gauge);

impl Metrics {
    /// Makes them known to `/metrics`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self { waiting: Gauge::default(), uploads: Family::default(), bytes: Counter::default() };
        registry.register("uploads_waiting", "Uploads that wait for their turn", metrics.waiting.clone());
        registry.register("uploads", "Uploads stored, by the way their bytes took", metrics.uploads.clone());
        registry.register_with_unit("uploaded", "Bytes of stored files", Unit::Bytes, metrics.bytes.clone());
        metrics
    }

    /// Counts one upload as waiting.
    pub fn waiting(&self) -> Waiting {
        self.waiting.inc();
        Waiting(self.waiting.clone())
    }

    /// Counts one stored file.
    pub fn received(&self, way: &'static str, bytes: u64) {
        self.uploads.get_or_create(&WayLabels { way }).inc();
        self.bytes.inc_by(bytes);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}
