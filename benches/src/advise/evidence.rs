//! What of a report bears on a question, and what follows from it by arithmetic.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

use super::{ACTIVE_UPLOADS, Question, WAITING_UPLOADS};
use crate::{
    record::{Report, Store, Target},
    report::{
        figures::{self, Cost, Figures, Traffic},
        targets::{self, describe},
    },
};

/// What V2 reads of an image at the link unless a checksum was declared, in bytes: its header and no more.
const LINK_READS_BYTES: f64 = 262_144.0;

/// With fewer images at once, the server's own start and end weigh more in its CPU time than they do.
const FEWEST_IMAGES: u32 = 50;

/// The figures that answer a question.
pub(super) struct Evidence {
    pub(super) question: Question,
    /// Where the bytes ended when it was measured.
    pub(super) store: Store,
    /// Images at once whose figures are used.
    pub(super) images: u32,
    /// Size of the images that were measured, in bytes.
    pub(super) measured_bytes: u64,
    pub(super) streaming: Side,
    pub(super) presigned: Side,
}

/// One of the two servers.
pub(super) struct Side {
    /// As the advice calls it.
    pub(super) name: &'static str,
    pub(super) row: Figures,
    pub(super) cost: Cost,
    pub(super) clients: Traffic,
    /// Bytes from the server to the store, for each image that was measured.
    to_store: f64,
    /// Bytes back.
    from_store: f64,
    /// What is asked of the store for each image, by operation; the clients' own request is among them.
    pub(super) operations: BTreeMap<String, f64>,
}

impl Evidence {
    pub(super) fn of(report: &Report, question: Question) -> Result<Self> {
        let figures = figures::of(report)?;
        let is_presigned = |target: Target| matches!(target, Target::V2Post | Target::V2Put);
        // A void row has nothing to go by; a sink is no store.
        let usable: Vec<&Figures> = figures.iter().filter(|row| row.store != Store::Sink && row.finished > 0).collect();
        let at = |store: Store, images: u32, wanted: &dyn Fn(Target) -> bool| {
            usable.iter().find(|row| (row.store, row.images) == (store, images) && wanted(row.target)).copied()
        };
        let mut both: Vec<(Store, u32)> = usable
            .iter()
            .map(|row| (row.store, row.images))
            .filter(|(store, images)| {
                at(*store, *images, &|target| target == Target::V1).is_some()
                    && at(*store, *images, &is_presigned).is_some()
            })
            .collect();
        both.sort_unstable();
        let first_above = both.iter().find(|(_store, images)| *images >= question.peak.max(FEWEST_IMAGES));
        let Some(&(store, images)) = first_above.or(both.iter().max_by_key(|(_store, images)| *images)) else {
            bail!(
                "the report has no finished rounds of v1 and of v2-post (or v2-put) with the same number of images \
                 on a store, so that it cannot advise; make one with `upload-bench compare`"
            );
        };
        let streaming = at(store, images, &|target| target == Target::V1).context("v1 was found just now")?;
        let presigned = at(store, images, &is_presigned).context("v2 was found just now")?;
        Ok(Self {
            question,
            store,
            images,
            measured_bytes: streaming.image_bytes,
            streaming: Side::of("V1", streaming)?,
            presigned: Side::of("V2", presigned)?,
        })
    }

    pub(super) fn sides(&self) -> [&Side; 2] {
        [&self.streaming, &self.presigned]
    }

    pub(super) fn is_beyond_what_was_measured(&self) -> bool {
        self.question.peak > self.images
    }

    pub(super) fn is_other_size(&self) -> bool {
        self.question.image_bytes != self.measured_bytes
    }

    pub(super) fn cpu_seconds_per_day(&self, side: &Side) -> f64 {
        let images = self.question.images_per_day as f64;
        if self.is_other_size() && side.is_streaming() {
            side.cost.cpu_s_per_gb.median * images * self.question.image_bytes as f64 / figures::GIGABYTE
        } else {
            side.cost.cpu_ms_per_image.median / 1e3 * images
        }
    }

    /// Bytes into the server for each image of the size that was asked for.
    pub(super) fn bytes_in(&self, side: &Side) -> f64 {
        side.clients.bytes_to_server.median + side.from_store + self.more_bytes_in(side)
    }

    /// Bytes out of it.
    pub(super) fn bytes_out(&self, side: &Side) -> f64 {
        let more =
            if side.is_streaming() { self.question.image_bytes as f64 - self.measured_bytes as f64 } else { 0.0 };
        side.clients.bytes_from_server.median + side.to_store + more
    }

    /// What another size than the measured one adds to the bytes in: all of the difference in V1, and in V2 what it
    /// changes of the piece that the link reads.
    fn more_bytes_in(&self, side: &Side) -> f64 {
        let (asked, measured) = (self.question.image_bytes as f64, self.measured_bytes as f64);
        if side.is_streaming() {
            asked - measured
        } else {
            asked.min(LINK_READS_BYTES) - measured.min(LINK_READS_BYTES)
        }
    }

    pub(super) fn egress_per_day(&self, side: &Side) -> Option<f64> {
        let gigabytes = self.bytes_out(side) * self.question.images_per_day as f64 / figures::GIGABYTE;
        Some(gigabytes * self.question.egress_price?)
    }

    /// None without a price.
    pub(super) fn requests_per_day(&self, side: &Side) -> Option<f64> {
        let (writes, reads) = (self.question.request_price, self.question.read_price);
        writes.or(reads)?;
        let each = side.writes() * writes.unwrap_or_default() + side.reads() * reads.unwrap_or_default();
        Some(each * self.question.images_per_day as f64 / 1e3)
    }

    /// All that has a price, for a day; none where nothing has one.
    pub(super) fn price_per_day(&self, side: &Side) -> Option<f64> {
        match (self.egress_per_day(side), self.requests_per_day(side)) {
            (None, None) => None,
            (egress, requests) => Some(egress.unwrap_or_default() + requests.unwrap_or_default()),
        }
    }

    /// Uploads of the peak for which V1 has neither a turn nor a place to wait.
    pub(super) fn refused_at_the_door(&self) -> u64 {
        u64::from(self.question.peak).saturating_sub(ACTIVE_UPLOADS + WAITING_UPLOADS)
    }

    /// How long V1 takes for what it admits of the peak, in seconds, at the pace that was measured.
    pub(super) fn streaming_peak_seconds(&self) -> Option<f64> {
        let admitted = u64::from(self.question.peak).min(ACTIVE_UPLOADS + WAITING_UPLOADS);
        let pace = self.streaming.row.megabytes_per_s?.median * 1e6;
        (pace > 0.0).then(|| admitted as f64 * self.question.image_bytes as f64 / pace)
    }
}

impl Side {
    fn of(name: &'static str, row: &Figures) -> Result<Self> {
        let target = targets::name(row.target);
        let lacks = |what: &str| {
            format!("the report has no {what} of {target} with {} images, so that it cannot advise", row.images)
        };
        let cost = row.server.clone().with_context(|| lacks("server's CPU time"))?;
        let clients = row.clients.clone().with_context(|| lacks("successful images"))?;
        let sum = row.server_to_store.clone().with_context(|| {
            format!(
                "the report has no run of {target} on the null sink with images of {} bytes, so that the server's \
                 requests to the store are not known; make a report with `sinkBursts`",
                row.image_bytes
            )
        })?;
        let mut operations = sum.requests;
        if let Some(write) = describe(row.target).client_write {
            *operations.entry(write.to_owned()).or_default() += 1.0;
        }
        let (to_store, from_store) = (sum.bytes_to_store, sum.bytes_from_store);
        Ok(Self { name, row: row.clone(), cost, clients, to_store, from_store, operations })
    }

    pub(super) fn is_streaming(&self) -> bool {
        self.row.target == Target::V1
    }

    /// What the store bills for each image.
    pub(super) fn billed(&self) -> f64 {
        self.sum_of(targets::is_billed)
    }

    /// Billed writes for each image.
    pub(super) fn writes(&self) -> f64 {
        self.sum_of(|operation| {
            operation.starts_with("Put") || operation.starts_with("Post") || operation.starts_with("Copy")
        })
    }

    /// Billed reads for each image.
    pub(super) fn reads(&self) -> f64 {
        self.sum_of(|operation| operation.starts_with("Get") || operation.starts_with("Head"))
    }

    fn sum_of(&self, wanted: impl Fn(&str) -> bool) -> f64 {
        self.operations.iter().filter(|(operation, _count)| wanted(operation)).map(|(_operation, count)| count).sum()
    }
}
