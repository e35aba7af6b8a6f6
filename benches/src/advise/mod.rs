//! `upload-bench advise`: which of the two servers to deploy, from what a report has measured, with its arithmetic
//! shown.
//!
//! Nothing is extrapolated without saying so. What cannot be answered from the report is an error and not a guess.

mod evidence;
mod verdict;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    payload::parse_size,
    record::Report,
    report::{
        self,
        spread::{bytes, grouped, number, trimmed},
        targets,
    },
};
use evidence::Evidence;

/// Uploads that V1 serves at once, by default.
pub const ACTIVE_UPLOADS: u64 = 32;
/// Uploads that V1 lets wait for their turn, by default; it answers further ones with 503.
pub const WAITING_UPLOADS: u64 = 1200;
/// How long V1 lets an upload wait, by default, in seconds.
pub const LONGEST_WAIT_SECONDS: u64 = 60;
/// The largest image that either server takes by default, in bytes.
pub const LARGEST_IMAGE_BYTES: u64 = 20 * 1024 * 1024;

/// Say from a report which server to deploy, and why.
#[derive(Debug, Clone, Args)]
pub struct AdviseCommand {
    /// The report.json of a comparison.
    #[arg(long, value_name = "FILE")]
    pub report: PathBuf,

    /// Images in a day.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub images_per_day: u64,

    /// Size of an image, in bytes or with a unit: 5000000, 5mb, 1.5MiB.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub size: u64,

    /// Images at once, at the worst moment.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub peak: u32,

    /// What a GB (10⁹ bytes) costs that leaves the server, to clients or to the store.
    #[arg(long, value_name = "PRICE", value_parser = parse_price)]
    pub egress_price: Option<f64>,

    /// What the store charges for 1000 writes: PUT, POST and COPY.
    #[arg(long, value_name = "PRICE", value_parser = parse_price)]
    pub request_price: Option<f64>,

    /// What the store charges for 1000 reads.
    #[arg(long, value_name = "PRICE", value_parser = parse_price)]
    pub read_price: Option<f64>,

    /// Clients cannot reach the bucket, or must not.
    #[arg(long)]
    pub private_bucket: bool,
}

/// What a deployment asks of a server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Question {
    /// Images in a day.
    pub images_per_day: u64,
    /// Size of an image, in bytes.
    pub image_bytes: u64,
    /// Images at once, at the worst moment.
    pub peak: u32,
    /// What a GB costs that leaves the server.
    pub egress_price: Option<f64>,
    /// What 1000 writes cost.
    pub request_price: Option<f64>,
    /// What 1000 reads cost.
    pub read_price: Option<f64>,
    /// Clients cannot reach the bucket.
    pub private_bucket: bool,
}

impl AdviseCommand {
    /// The advice, in lines.
    ///
    /// # Errors
    ///
    /// Fails when the report cannot be read, or lacks runs that the advice needs.
    pub fn run(&self) -> Result<String> {
        advise(&report::read(&self.report)?, self.question())
    }

    /// What was asked.
    pub fn question(&self) -> Question {
        Question {
            images_per_day: self.images_per_day,
            image_bytes: self.size,
            peak: self.peak,
            egress_price: self.egress_price,
            request_price: self.request_price,
            read_price: self.read_price,
            private_bucket: self.private_bucket,
        }
    }
}

/// The advice that a report gives, in lines.
///
/// # Errors
///
/// Fails when the report lacks runs of V1 or V2 that the advice needs.
pub fn advise(report: &Report, question: Question) -> Result<String> {
    let evidence = Evidence::of(report, question)?;
    let mut lines = asked(report, &evidence);
    lines.extend(cpu(&evidence));
    lines.extend(memory(&evidence));
    lines.extend(traffic(&evidence));
    lines.extend(requests(&evidence));
    lines.extend(refusals(&evidence));
    lines.extend(verdict::lines(&evidence));
    Ok(lines.join("\n"))
}

fn asked(report: &Report, evidence: &Evidence) -> Vec<String> {
    let question = evidence.question;
    let mut lines = vec![
        format!(
            "Asked: {} images a day of {}, {} at once at the peak.",
            grouped(question.images_per_day),
            bytes(question.image_bytes as f64),
            grouped(question.peak.into())
        ),
        format!(
            "From the report of {}, commit {}: {}, images of {} bytes, on {}.",
            report.started_at.format("%Y-%m-%d"),
            report.machine.commit,
            report.machine.cpu,
            grouped(evidence.measured_bytes),
            targets::store(evidence.store),
        ),
    ];
    lines.push(if evidence.is_beyond_what_was_measured() {
        format!(
            "Used are the figures of {} at once, the most that was measured. The peak is beyond it: what happens \
             there is not known.",
            grouped(evidence.images.into())
        )
    } else {
        format!(
            "Used are the figures of {} at once, the smallest number measured that is not below the peak.",
            grouped(evidence.images.into())
        )
    });
    if evidence.is_other_size() {
        lines.push(
            "The size is not the one that was measured: V1's CPU is taken by the byte and V2's by the image, which \
             makes V1 look too good for much smaller images. Memory is as measured."
                .to_owned(),
        );
    }
    if question.image_bytes > LARGEST_IMAGE_BYTES {
        lines.push(format!(
            "Neither server takes images of more than {LARGEST_IMAGE_BYTES} bytes unless MAX_IMAGE_BYTES is raised."
        ));
    }
    lines
}

fn cpu(evidence: &Evidence) -> Vec<String> {
    let mut lines = vec![String::new(), "CPU of the server".to_owned()];
    for side in evidence.sides() {
        let seconds = evidence.cpu_seconds_per_day(side);
        let each = if evidence.is_other_size() && side.is_streaming() {
            let gigabytes = evidence.question.image_bytes as f64 / 1e9;
            format!("{} CPU-seconds for each GB × {} GB", number(side.cost.cpu_s_per_gb.median), number(gigabytes))
        } else {
            format!("{} ms for each image", number(side.cost.cpu_ms_per_image.median))
        };
        lines.push(format!(
            "  {}: {each} × {} = {} CPU-seconds = {} CPU-hours a day, {} % of one CPU",
            side.name,
            grouped(evidence.question.images_per_day),
            number(seconds),
            number(seconds / 3600.0),
            number(seconds / 864.0),
        ));
    }
    lines
}

fn memory(evidence: &Evidence) -> Vec<String> {
    let mut lines = vec![String::new(), "Memory of the server at the peak".to_owned()];
    for side in evidence.sides() {
        let success = side.row.success_percent.map_or(0.0, |success| success.least);
        let unfinished = match side.row.unfinished.len() {
            0 => String::new(),
            count => format!("; {count} of its rounds did not finish"),
        };
        lines.push(format!(
            "  {}: {} at most, with {} at once; {} % of the images succeeded in the worst round{unfinished}",
            side.name,
            bytes(side.cost.peak_bytes().most),
            grouped(evidence.images.into()),
            report::spread::percent(success),
        ));
    }
    lines
}

fn traffic(evidence: &Evidence) -> Vec<String> {
    let mut lines = vec![String::new(), "Bytes through the server".to_owned()];
    let images = evidence.question.images_per_day;
    for side in evidence.sides() {
        let (incoming, outgoing) = (evidence.bytes_in(side), evidence.bytes_out(side));
        lines.push(format!(
            "  {}: {} in + {} out for each image × {} = {} a day",
            side.name,
            bytes(incoming),
            bytes(outgoing),
            grouped(images),
            bytes((incoming + outgoing) * images as f64),
        ));
        if let Some(price) = evidence.question.egress_price {
            lines.push(format!(
                "      what leaves it: {} a day × {} for each GB = {}",
                bytes(outgoing * images as f64),
                trimmed(price),
                money(evidence.egress_per_day(side).unwrap_or_default()),
            ));
        }
    }
    lines
}

fn requests(evidence: &Evidence) -> Vec<String> {
    let mut lines = vec![String::new(), "Requests".to_owned()];
    for side in evidence.sides() {
        let to_store = if side.is_streaming() { "all to the server" } else { "one of them to the bucket" };
        let operations: Vec<String> =
            side.operations.iter().map(|(operation, count)| format!("{operation} {}", trimmed(*count))).collect();
        lines.push(format!(
            "  {}: {} round trips of the client, {to_store}; the store bills {} of {} for each image ({})",
            side.name,
            trimmed(side.clients.requests.median),
            trimmed(side.billed()),
            trimmed(side.operations.values().sum()),
            operations.join(", "),
        ));
        if let Some(total) = evidence.requests_per_day(side) {
            let images = grouped(evidence.question.images_per_day);
            let mut parts = Vec::new();
            if let Some(price) = evidence.question.request_price {
                parts.push(format!("{} × {images} × {} / 1000 for writes", trimmed(side.writes()), trimmed(price)));
            }
            if let Some(price) = evidence.question.read_price {
                parts.push(format!("{} × {images} × {} / 1000 for reads", trimmed(side.reads()), trimmed(price)));
            }
            lines.push(format!("      {} = {} a day", parts.join(" + "), money(total)));
        }
    }
    lines
}

fn refusals(evidence: &Evidence) -> Vec<String> {
    let peak = u64::from(evidence.question.peak);
    let doors = ACTIVE_UPLOADS + WAITING_UPLOADS;
    let mut lines = vec![String::new(), "Where V1 refuses".to_owned()];
    let room = match evidence.refused_at_the_door() {
        0 => format!("the peak of {} is within them", grouped(peak)),
        refused => format!("{} of {} are answered 503 at once", grouped(refused), grouped(peak)),
    };
    lines.push(format!(
        "  {ACTIVE_UPLOADS} uploads have their turn and {WAITING_UPLOADS} wait, {} together by default: {room}",
        grouped(doors)
    ));
    if let Some(seconds) = evidence.streaming_peak_seconds() {
        let patience = if seconds <= LONGEST_WAIT_SECONDS as f64 {
            format!("below the {LONGEST_WAIT_SECONDS} s that an upload may wait")
        } else {
            format!("so that those that wait longer than {LONGEST_WAIT_SECONDS} s are answered 503")
        };
        let admitted = grouped(peak.min(doors));
        lines
            .push(format!("  at the pace that was measured, {admitted} images take {} s, {patience}", number(seconds)));
    }
    lines.push("  V2 has no such doors: clients upload to the bucket, at the bucket's own limits".to_owned());
    lines
}

/// Three digits, without a currency: prices are whatever the caller counts in.
fn money(value: f64) -> String {
    number(value)
}

fn parse_price(text: &str) -> Result<f64> {
    match text.trim().parse::<f64>() {
        Ok(price) if price.is_finite() && price >= 0.0 => Ok(price),
        _ => bail!("a price is a number that is not negative, and {text} is none"),
    }
}
