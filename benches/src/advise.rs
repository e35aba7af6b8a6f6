//! `upload-bench advise`: which of the two servers to deploy, from what a report measured, with the arithmetic shown.
//!
//! It says so wherever it goes beyond what was measured. What a report cannot answer is an error, not a guess.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use upload_domain::{HEAD_BYTES, ImageLimits};

use crate::{
    payload::parse_size,
    record::{self, Line, Report, Store, Target},
    report::{
        self,
        figures::{self, Cost, Figures, GIGABYTE, PerImage, ServerToStore},
        spread::{bytes, grouped, number, percent, rate, seconds, trimmed},
        targets,
    },
};

/// Uploads that V1 serves at once by default (`UPLOADS_ACTIVE`).
pub const ACTIVE_UPLOADS: u64 = 32;
/// Uploads of slow clients that V1 has begun at once by default (`UPLOADS_OPEN`).
pub const OPEN_UPLOADS: u64 = 1200;
/// Uploads that V1 lets wait by default (`UPLOADS_WAITING`). It answers 503 to more.
pub const WAITING_UPLOADS: u64 = 1200;
/// How long V1 lets an upload wait by default, in seconds (`UPLOADS_WAIT_SECONDS`).
pub const LONGEST_WAIT_SECONDS: u64 = 60;

/// With fewer images at once, the start and the end of the server weigh too much in its CPU time.
const FEWEST_IMAGES: u32 = 50;
/// Round trips of a client for one image: one for each connection and one for each request. With TLS each connection takes one more.
const ROUND_TRIPS_V1: u32 = 4;
/// V2's clients also connect to the store.
const ROUND_TRIPS_V2: u32 = 5;
/// A cell of the crossover stands for a size if they differ by no more than this.
const SAME_SIZE: f64 = 2.0;
/// A smaller difference in CPU time decides nothing: one percent of one CPU, in seconds a day.
const NEGLIGIBLE_CPU_SECONDS: f64 = 864.0;

/// When V1 is right although V2 was recommended.
const V1_IF: &str =
    "Choose V1 instead if clients must not reach the bucket, or if no content may get into it before it was checked.";
/// When V2 is right although V1 was recommended.
const V2_IF: &str =
    "Choose V2 instead if clients may reach the bucket and are many or slow: their bytes then bypass the server.";

/// Recommend a server for your load, from a report.
#[derive(Debug, Clone, Args)]
pub struct AdviseCommand {
    /// The report.json of a comparison. Repeat it to add the rounds of others, such as the crossover.
    #[arg(long, value_name = "FILE", required = true)]
    pub report: Vec<PathBuf>,

    /// The load.
    #[command(flatten)]
    pub question: Question,
}

/// The load that a deployment expects.
#[derive(Debug, Clone, Copy, PartialEq, Args)]
pub struct Question {
    /// Images a day.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub images_per_day: u64,

    /// Size of an image, in bytes or with a unit: 5000000, 5mb, 1.5MiB.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub size: u64,

    /// Images at once, at the busiest moment.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub peak: u32,

    /// What each client sends in a second, in bytes or with a unit: 250000, 250kb. Without it, as much as it can.
    #[arg(long, value_name = "RATE", value_parser = parse_size)]
    pub client_rate: Option<u64>,

    /// The round trip from a client to the server and to the store, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=10_000))]
    pub rtt: u32,

    /// Price of each GB (10⁹ bytes) that leaves the server, to clients or to the store.
    #[arg(long, value_name = "PRICE", value_parser = parse_price)]
    pub egress_price: Option<f64>,

    /// Price of 1000 writes to the store: PUT, POST and COPY.
    #[arg(long, value_name = "PRICE", value_parser = parse_price)]
    pub request_price: Option<f64>,

    /// Price of 1000 reads from the store.
    #[arg(long, value_name = "PRICE", value_parser = parse_price)]
    pub read_price: Option<f64>,

    /// Clients cannot reach the bucket, or must not.
    #[arg(long)]
    pub private_bucket: bool,
}

/// The figures that answer a question.
struct Case {
    question: Question,
    store: Store,
    /// Images at once of the figures that are used.
    images: u32,
    /// Size of the images that were measured, in bytes.
    measured_bytes: u64,
    v1: Side,
    v2: Side,
    /// The line that was asked about, if one was.
    line: Option<Line>,
    /// The nearest slow rounds of V1 and of V2.
    slow: Option<(Figures, Figures)>,
    /// The nearest cell of the crossover, of V1 and of V2.
    cell: Option<(Figures, Figures)>,
}

/// One of the two servers, under the load that was asked about.
struct Side {
    name: &'static str,
    is_v1: bool,
    row: Figures,
    cost: Cost,
    /// CPU time for each image in the nearest cell of the crossover, or in the nearest slow round, in milliseconds.
    cell_cpu_ms: Option<f64>,
    image: PerImage,
    cpu_s_per_day: f64,
    /// Bytes into the server for each image.
    bytes_in: f64,
    /// Bytes out of it.
    bytes_out: f64,
    /// Billed writes to the store for each image.
    writes: f64,
    /// Billed reads.
    reads: f64,
}

impl AdviseCommand {
    /// The advice, in lines.
    ///
    /// # Errors
    /// When the report cannot be read, or lacks rounds that the advice needs.
    pub fn run(&self) -> Result<String> {
        let reports = self.report.iter().map(|file| report::read(file));
        let joined = reports.reduce(|first, other| {
            let (mut first, other) = (first?, other?);
            first.runs.extend(other.runs);
            Ok(first)
        });
        advise(&joined.context("give a report")??, self.question)
    }
}

/// The advice that a report gives, in lines.
///
/// # Errors
/// When the report lacks rounds that the advice needs.
pub fn advise(report: &Report, question: Question) -> Result<String> {
    let case = Case::of(report, question)?;
    let mut lines = case.asked(report);
    for (title, of_side) in [
        ("CPU of the server", Case::cpu as fn(&Case, &Side) -> Vec<String>),
        ("Memory of the server at the peak", Case::memory),
        ("Bytes through the server", Case::traffic),
        ("Requests", Case::requests),
    ] {
        lines.extend([String::new(), title.to_owned()]);
        lines.extend([&case.v1, &case.v2].into_iter().flat_map(|side| of_side(&case, side)));
    }
    lines.extend(case.one_client());
    lines.extend(case.slow_clients());
    lines.extend(case.waiting());
    lines.extend(case.recommendation());
    Ok(lines.join("\n"))
}

impl Case {
    fn of(report: &Report, question: Question) -> Result<Self> {
        let figures = figures::of(report)?;
        let find = |target, store, images| {
            figures::find(&figures, target, store, images).filter(|row| row.store != Store::Sink && row.finished > 0)
        };
        let pair = |row: &Figures| {
            let (store, images) = (row.store, row.images);
            let v2 = find(Target::V2Post, store, images).or_else(|| find(Target::V2Put, store, images))?;
            Some((find(Target::V1, store, images)?.clone(), v2.clone()))
        };
        let of_v1 = figures.iter().filter(|row| (row.case, row.target) == (record::Case::Burst, Target::V1));
        let mut pairs: Vec<(Figures, Figures)> = of_v1.filter_map(pair).collect();
        pairs.sort_by_key(|(v1, _v2)| v1.images);
        let enough = question.peak.max(FEWEST_IMAGES);
        let Some((v1, v2)) = pairs.iter().find(|(v1, _v2)| v1.images >= enough).or(pairs.last()).cloned() else {
            bail!(
                "the report has no finished rounds of v1 and of v2-post (or v2-put) with the same number of images on a \
                 store; make a report with `upload-bench compare`"
            );
        };
        let line = Line { bytes_per_second: question.client_rate, rtt_ms: question.rtt };
        let line = (line != Line::default()).then_some(line);
        let cell = line.and_then(|line| nearest_cell(&figures, question.size, line));
        let slow = question.client_rate.and_then(|rate| nearest_slow(&figures, question.peak, rate));
        let alike = |(v1, _v2): &&(Figures, Figures)| v1.image_bytes == question.size;
        let nearest = cell.as_ref().or(slow.as_ref().filter(alike));
        let of = |name, row, cell: Option<&Figures>| Side::of(report, &question, name, row, cell);
        Ok(Self {
            question,
            store: v1.store,
            images: v1.images,
            measured_bytes: v1.image_bytes,
            v1: of("V1", v1, nearest.map(|(v1, _v2)| v1))?,
            v2: of("V2", v2, nearest.map(|(_v1, v2)| v2))?,
            line,
            slow,
            cell,
        })
    }

    fn asked(&self, report: &Report) -> Vec<String> {
        let question = self.question;
        let (images, peak) = (grouped(self.images.into()), grouped(question.peak.into()));
        let mut lines = vec![
            format!(
                "Question: {} images a day of {}, {peak} at once at the peak.",
                grouped(question.images_per_day),
                bytes(question.size as f64)
            ),
            format!(
                "Report: {}, commit {}, {}, images of {} bytes on {}.",
                report.started_at.format("%Y-%m-%d"),
                report.machine.commit,
                report.machine.cpu,
                grouped(self.measured_bytes),
                targets::store(self.store),
            ),
        ];
        lines.push(if question.peak > self.images {
            format!("The figures are those of {images} at once, the most that was measured. Your peak is beyond that.")
        } else {
            format!("The figures are those of {images} at once, the smallest measured number that covers your peak.")
        });
        if question.size != self.measured_bytes && self.cell.is_none() {
            lines.push(
                "Your size was not measured. V1's CPU time is scaled by the byte and V2's by the image, which favours V1 for much \
                 smaller images. Memory is not scaled."
                    .to_owned(),
            );
        }
        let largest = ImageLimits::default().max_image_bytes;
        if question.size > largest {
            lines.push(format!("Both servers refuse images of more than {largest} bytes; raise MAX_IMAGE_BYTES."));
        }
        lines
    }

    fn cpu(&self, side: &Side) -> Vec<String> {
        let each = if let Some(cpu_ms) = side.cell_cpu_ms {
            format!("{} ms for each image on the nearest measured line", number(cpu_ms))
        } else if side.is_scaled(self) {
            let gigabytes = number(self.question.size as f64 / GIGABYTE);
            format!("{} CPU-seconds for each GB × {gigabytes} GB", number(side.cost.cpu_s_per_gb.median))
        } else {
            format!("{} ms for each image", number(side.cost.cpu_ms_per_image.median))
        };
        let (images, seconds) = (grouped(self.question.images_per_day), side.cpu_s_per_day);
        let (hours, share) = (number(seconds / 3600.0), number(seconds / 864.0));
        let seconds = number(seconds);
        vec![format!(
            "  {}: {each} × {images} = {seconds} CPU-seconds = {hours} CPU-hours a day, {share} % of one CPU",
            side.name
        )]
    }

    fn memory(&self, side: &Side) -> Vec<String> {
        let success = percent(side.row.success_percent.map_or(0.0, |success| success.least));
        let unfinished = match side.row.unfinished.len() {
            0 => String::new(),
            count => format!("; {count} of {} rounds did not finish", side.row.rounds()),
        };
        let (most, images) = (bytes(side.cost.peak_bytes().most), grouped(self.images.into()));
        vec![format!(
            "  {}: at most {most} with {images} at once; {success} % of the images succeeded in the worst round{unfinished}",
            side.name
        )]
    }

    fn traffic(&self, side: &Side) -> Vec<String> {
        let images = self.question.images_per_day as f64;
        let (into, out) = (side.bytes_in, side.bytes_out);
        let mut lines = vec![format!(
            "  {}: ({} in + {} out) × {} = {} a day",
            side.name,
            bytes(into),
            bytes(out),
            grouped(self.question.images_per_day),
            bytes((into + out) * images),
        )];
        if let (Some(price), Some(total)) = (self.question.egress_price, self.egress(side)) {
            let (out, price, total) = (bytes(out * images), trimmed(price), number(total));
            lines.push(format!("      egress: {out} a day × {price} for each GB = {total}"));
        }
        lines
    }

    fn requests(&self, side: &Side) -> Vec<String> {
        let whole = |count: Option<f64>| trimmed(count.unwrap_or_default());
        let mut lines = vec![format!(
            "  {}: the client sends {} requests, {}; the store gets {} and bills {} of them",
            side.name,
            trimmed(side.image.requests),
            if side.is_v1 { "all to the server" } else { "one of them to the bucket" },
            whole(side.image.operations(|_name| true)),
            whole(side.image.billed()),
        )];
        if let Some(total) = self.request_cost(side) {
            let part = |count: f64, price: Option<f64>, what: &str| {
                let images = grouped(self.question.images_per_day);
                Some(format!("{what}: {} × {images} × {} / 1000", trimmed(count), trimmed(price?)))
            };
            let writes = part(side.writes, self.question.request_price, "writes");
            let reads = part(side.reads, self.question.read_price, "reads");
            let parts: Vec<String> = writes.into_iter().chain(reads).collect();
            lines.push(format!("      {} = {} a day", parts.join(" + "), number(total)));
        }
        lines
    }

    /// How long one client waits, by arithmetic and as measured.
    fn one_client(&self) -> Vec<String> {
        let Some(line) = self.line else { return Vec::new() };
        let mut lines =
            vec![String::new(), "Time of one image on the client's line, without the server's part".to_owned()];
        for (name, round_trips) in [("V1", ROUND_TRIPS_V1), ("V2", ROUND_TRIPS_V2)] {
            let sending = line.ideal_s(self.question.size);
            let bytes = line
                .bytes_per_second
                .map(|rate| format!("{} / {}", bytes(self.question.size as f64), self::rate(rate)));
            let trips = (line.rtt_ms > 0).then(|| format!("{round_trips} round trips × {} ms", line.rtt_ms));
            let terms: Vec<String> = bytes.into_iter().chain(trips).collect();
            let total = sending.unwrap_or_default() + f64::from(round_trips * line.rtt_ms) / 1e3;
            lines.push(format!("  {name}: {} = {} s", terms.join(" + "), seconds(total)));
        }
        lines.push(match &self.cell {
            Some((v1, v2)) => {
                let linked =
                    |row: &Figures| row.latency.map_or_else(|| "–".to_owned(), |latency| seconds(latency.p50_s));
                format!(
                    "  measured with {} at {} and {} ms, until linked: V1 {} s, V2 {} s",
                    bytes(v1.image_bytes as f64),
                    v1.line.bytes_per_second.map_or_else(|| "no limit".to_owned(), rate),
                    v1.line.rtt_ms,
                    linked(v1),
                    linked(v2),
                )
            }
            None => {
                "  not measured: add the report of benches/workloads/crossover.json with a second --report".to_owned()
            }
        });
        lines
    }

    /// How the servers fared with slow clients.
    fn slow_clients(&self) -> Vec<String> {
        if self.question.client_rate.is_none() {
            return Vec::new();
        }
        let mut lines = vec![String::new(), "Slow clients".to_owned()];
        let Some((v1, v2)) = &self.slow else {
            lines.push("  not measured: the report has no slow rounds of V1 and V2".to_owned());
            return lines;
        };
        for (name, row) in [("V1", v1), ("V2", v2)] {
            let each = row.line.bytes_per_second.map(rate).unwrap_or_default();
            let success = percent(row.success_percent.map_or(0.0, |success| success.least));
            let times = row.times_ideal().map(|times| format!(", {} times the ideal time", number(times.median)));
            let memory = row.server.map(|cost| format!(", at most {}", bytes(cost.peak_bytes().most)));
            lines.push(format!(
                "  {name}: {success} % of {} images at {each} each{}{}",
                grouped(row.images.into()),
                times.unwrap_or_default(),
                memory.unwrap_or_default()
            ));
        }
        lines
    }

    /// Where V1 refuses uploads.
    fn waiting(&self) -> Vec<String> {
        let peak = u64::from(self.question.peak);
        let room = match self.refused() {
            0 => "the peak fits".to_owned(),
            refused => format!("V1 answers 503 to {} of the {}", grouped(refused), grouped(peak)),
        };
        let mut lines = vec![
            String::new(),
            "Where V1 refuses".to_owned(),
            format!(
                "  by default V1 serves {} uploads at once, and {WAITING_UPLOADS} may wait: {room}",
                self.at_once()
            ),
        ];
        if let Some(seconds) = self.peak_seconds() {
            let patience = if seconds <= LONGEST_WAIT_SECONDS as f64 {
                format!("less than the {LONGEST_WAIT_SECONDS} s that an upload may wait")
            } else {
                format!("and V1 answers 503 to uploads that waited {LONGEST_WAIT_SECONDS} s")
            };
            let admitted = grouped(peak.min(self.at_once() + WAITING_UPLOADS));
            lines.push(format!("  at the measured pace, {admitted} images take {} s, {patience}", number(seconds)));
        }
        lines.push("  V2 has no such limit: clients upload to the bucket".to_owned());
        lines
    }

    /// Uploads of the peak that V1 neither serves nor lets wait.
    fn refused(&self) -> u64 {
        u64::from(self.question.peak).saturating_sub(self.at_once() + WAITING_UPLOADS)
    }

    /// Uploads that V1 has begun at once. Slow clients keep it waiting, and then it begins others.
    fn at_once(&self) -> u64 {
        if self.question.client_rate.is_some() { OPEN_UPLOADS } else { ACTIVE_UPLOADS }
    }

    /// How long V1 takes for the uploads of the peak that it admits, at the measured pace and no faster than their clients send, in seconds.
    fn peak_seconds(&self) -> Option<f64> {
        let admitted = u64::from(self.question.peak).min(self.at_once() + WAITING_UPLOADS);
        let bytes_per_s = self.v1.row.images_per_s?.median * self.measured_bytes as f64;
        let size = self.question.size as f64;
        let one_after_another = admitted.div_ceil(self.at_once()) as f64;
        let sending = self.question.client_rate.map_or(0.0, |rate| one_after_another * size / rate as f64);
        (bytes_per_s > 0.0).then(|| (admitted as f64 * size / bytes_per_s).max(sending))
    }

    /// The price of a day's egress.
    fn egress(&self, side: &Side) -> Option<f64> {
        Some(side.bytes_out * self.question.images_per_day as f64 / GIGABYTE * self.question.egress_price?)
    }

    /// The price of a day's requests. `None` without a price.
    fn request_cost(&self, side: &Side) -> Option<f64> {
        let (write, read) = (self.question.request_price, self.question.read_price);
        write.or(read)?;
        let each = side.writes * write.unwrap_or_default() + side.reads * read.unwrap_or_default();
        Some(each * self.question.images_per_day as f64 / 1e3)
    }

    /// Everything that has a price, for a day. `None` without a price.
    fn price(&self, side: &Side) -> Option<f64> {
        match (self.egress(side), self.request_cost(side)) {
            (None, None) => None,
            (egress, requests) => Some(egress.unwrap_or_default() + requests.unwrap_or_default()),
        }
    }

    fn recommendation(&self) -> Vec<String> {
        let reach = if self.question.private_bucket {
            "Clients cannot reach the bucket. V2 needs that for uploads. V1 needs it only for reads, and a cache in front of the \
             bucket is enough for these."
        } else {
            "With V2, clients must reach the bucket to upload (browsers: with CORS). With V1, only to read."
        };
        let (deploy, because, otherwise) = self.decide();
        let mut lines = vec![String::new(), reach.to_owned(), String::new(), format!("Recommendation: {deploy}.")];
        lines.extend(because.into_iter().map(|reason| format!("  {reason}")));
        lines.push(otherwise.to_owned());
        lines
    }

    /// What to deploy, why, and when not. The first fact that applies decides.
    fn decide(&self) -> (&'static str, Vec<String>, &'static str) {
        const V1: &str = "deploy V1";
        const V2: &str = "deploy V2";
        if self.question.private_bucket {
            let mut because = vec!["V2 does not work if clients cannot reach the bucket.".to_owned()];
            because.extend(self.v1_fails().map(|reason| format!("Take care: {reason}")));
            return (V1, because, V2_IF);
        }
        match (self.v1_fails(), self.failed(&self.v2)) {
            (Some(v1), Some(v2)) => {
                return ("neither as measured; add servers or a larger store, and measure again", vec![v1, v2], V1_IF);
            }
            (Some(reason), None) => return (V2, vec![reason, self.cpu_ratio()], V1_IF),
            (None, Some(reason)) => return (V1, vec![reason], V2_IF),
            (None, None) => {}
        }
        if let (Some(v1), Some(v2)) = (self.price(&self.v1), self.price(&self.v2))
            && (v1 - v2).abs() > 0.01 * v1.max(v2)
        {
            let prices = format!("Traffic and requests cost {} a day with V1, and {} with V2.", number(v1), number(v2));
            let (deploy, otherwise) = if v2 < v1 { (V2, V1_IF) } else { (V1, V2_IF) };
            return (deploy, vec![prices, self.cpu_ratio()], otherwise);
        }
        if self.v1.cpu_s_per_day - self.v2.cpu_s_per_day > NEGLIGIBLE_CPU_SECONDS {
            return (V2, vec![self.cpu_ratio()], V1_IF);
        }
        let because = [
            "Both serve the peak, and V2 saves less than one percent of one CPU.",
            "V1 is then the simpler one: clients need one address, and wrong content never reaches the bucket.",
        ];
        (V1, because.map(str::to_owned).into(), V2_IF)
    }

    /// Why V1 does not serve the peak, if it does not.
    fn v1_fails(&self) -> Option<String> {
        let refused = self.refused();
        if refused > 0 {
            let peak = grouped(self.question.peak.into());
            return Some(format!("V1 would answer 503 to {} of the {peak} images of the peak.", grouped(refused)));
        }
        match self.peak_seconds() {
            Some(seconds) if seconds > LONGEST_WAIT_SECONDS as f64 => Some(format!(
                "V1 would need {} s for the peak, and an upload may wait {LONGEST_WAIT_SECONDS} s.",
                number(seconds)
            )),
            _ => self.failed(&self.v1),
        }
    }

    fn failed(&self, side: &Side) -> Option<String> {
        let name = side.name;
        if let Some((v1, v2)) = &self.slow {
            let row = if side.is_v1 { v1 } else { v2 };
            if row.stops() {
                let images = grouped(row.images.into());
                return Some(format!("{name} did not serve every image of {images} slow clients in the report."));
            }
        }
        let images = grouped(self.images.into());
        side.row.stops().then(|| format!("{name} did not serve every image in the report with {images} at once."))
    }

    fn cpu_ratio(&self) -> String {
        let (v1, v2) = (self.v1.cpu_s_per_day, self.v2.cpu_s_per_day);
        let (hours_v1, hours_v2) = (number(v1 / 3600.0), number(v2 / 3600.0));
        format!("V1 uses {hours_v1} CPU-hours a day, {} times V2's {hours_v2}.", trimmed(v1 / v2))
    }
}

impl Side {
    fn of(
        report: &Report,
        question: &Question,
        name: &'static str,
        row: Figures,
        cell: Option<&Figures>,
    ) -> Result<Self> {
        let (target, images) = (targets::name(row.target), row.images);
        let lacks =
            |what: &str| format!("the report has no {what} of {target} with {images} images, which the advice needs");
        let cost = row.server.with_context(|| lacks("CPU time"))?;
        let no_round = || lacks("round with only successes");
        let image = figures::per_image(report, row.target, row.image_bytes).with_context(no_round)?;
        let Some(ServerToStore { requests, to_store, from_store }) = image.server.clone() else {
            bail!(
                "the report has no round of {target} on the null sink with images of {} bytes, so the server's requests to the \
                 store are not known; make a report with `sinkBursts`",
                row.image_bytes
            );
        };
        let is_v1 = row.target == Target::V1;
        let (asked, measured) = (question.size as f64, row.image_bytes as f64);
        // Another size changes what passes through V1 by all of the difference, and V2 by what it reads at the link.
        let reads = requests.get("GetObject").copied().unwrap_or_default();
        let head = HEAD_BYTES as f64;
        let more_read = (asked.min(head) - measured.min(head)) * reads;
        let (more_in, more_out) = if is_v1 { (asked - measured, asked - measured) } else { (more_read, 0.0) };
        let sum = |prefixes: &[&str]| image.operations(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)));
        let (writes, reads) = (sum(&["Put", "Post", "Copy"]), sum(&["Get", "Head"]));
        let cell_cpu_ms = cell.and_then(|cell| Some(cell.server?.cpu_ms_per_image.median));
        let per_image_s = if let Some(cpu_ms) = cell_cpu_ms {
            cpu_ms / 1e3
        } else if is_v1 && asked != measured {
            cost.cpu_s_per_gb.median * asked / GIGABYTE
        } else {
            cost.cpu_ms_per_image.median / 1e3
        };
        Ok(Self {
            name,
            is_v1,
            cost,
            cell_cpu_ms,
            cpu_s_per_day: per_image_s * question.images_per_day as f64,
            bytes_in: image.to_server + from_store + more_in,
            bytes_out: image.from_server + to_store + more_out,
            writes: writes.unwrap_or_default(),
            reads: reads.unwrap_or_default(),
            image,
            row,
        })
    }

    /// Whether its CPU time was scaled to another size than the measured one.
    fn is_scaled(&self, case: &Case) -> bool {
        self.is_v1 && case.question.size != case.measured_bytes
    }
}

/// The rows of V1 and V2 of the slow rounds that cover the peak, or of the largest; of several rates, those of the nearest.
fn nearest_slow(figures: &[Figures], peak: u32, bytes_per_second: u64) -> Option<(Figures, Figures)> {
    let of = |target| {
        let rows = figures.iter().filter(move |row| (row.case, row.target) == (record::Case::Slow, target));
        let far =
            |row: &&Figures| distance(row.line.bytes_per_second.map(|rate| rate as f64), Some(bytes_per_second as f64));
        let beyond = |row: &&Figures| if row.images < peak { u32::MAX - row.images } else { row.images };
        rows.min_by(|left, right| far(left).total_cmp(&far(right)).then(beyond(left).cmp(&beyond(right)))).cloned()
    };
    let v1 = of(Target::V1)?;
    let v2 = of(Target::V2Post)?;
    (v1.images == v2.images && v1.line == v2.line).then_some((v1, v2))
}

/// The rows of V1 and V2 of the cell that is nearest to a size and a line, if its size is near enough.
fn nearest_cell(figures: &[Figures], size: u64, line: Line) -> Option<(Figures, Figures)> {
    let cells = figures.iter().filter(|row| (row.case, row.target) == (record::Case::Crossover, Target::V1));
    let near = cells.filter(|row| distance(Some(row.image_bytes as f64), Some(size as f64)) <= SAME_SIZE.ln());
    let far = |row: &&Figures| {
        let rates = [row.line.bytes_per_second, line.bytes_per_second].map(|rate| rate.map(|rate| rate as f64));
        // A round trip of 0 has no logarithm.
        let trips = [row.line.rtt_ms, line.rtt_ms].map(|rtt_ms| Some(f64::from(rtt_ms) + 1.0));
        let sizes = [row.image_bytes, size].map(|bytes| Some(bytes as f64));
        [sizes, rates, trips].map(|[one, other]| distance(one, other)).iter().sum::<f64>()
    };
    let v1 = near.min_by(|left, right| far(left).total_cmp(&far(right)))?;
    let is_same = |row: &&Figures| {
        let of_row = (row.case, row.target, row.store, row.image_bytes, row.line);
        of_row == (v1.case, Target::V2Post, v1.store, v1.image_bytes, v1.line)
    };
    Some((v1.clone(), figures.iter().find(is_same)?.clone()))
}

/// How far two values are from each other, as the logarithm of their ratio. No limit is far from every rate.
fn distance(one: Option<f64>, other: Option<f64>) -> f64 {
    const FAR: f64 = 10.0;
    match (one, other) {
        (Some(one), Some(other)) => (one / other).ln().abs(),
        (None, None) => 0.0,
        _ => FAR,
    }
}

fn parse_price(text: &str) -> Result<f64> {
    match text.trim().parse::<f64>() {
        Ok(price) if price.is_finite() && price >= 0.0 => Ok(price),
        _ => bail!("{text} is not a price: give a number that is not negative"),
    }
}
