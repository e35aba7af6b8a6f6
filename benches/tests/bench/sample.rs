//! A report with fixed figures: of its seven targets one is skipped, one hangs and dies, one has a void round, and one refuses
//! some images. It also has slow rounds, mixed ones, and a crossover of eight cells.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use upload_bench::{
    latency,
    record::{
        Beside, Case, Ending, Limits, Line, Load, Machine, MemorySample, Report, Run, Skipped, Step, Store, Target,
        Traffic, Usage, VERSION, Verified,
    },
    workload::{Burst, Crossover, Mixed, Size, Slow, Workload},
};

/// Size of the sample's images, in bytes.
pub const IMAGE_BYTES: u64 = 5_000_000;

/// What a slow client of the sample sends in a second, in bytes.
pub const SLOW: u64 = 250_000;
const SLOW_IMAGES: u32 = 300;
/// The targets that are compared over slow lines.
const BOTH: [Target; 2] = [Target::V1, Target::V2Post];

/// The figures of a target in the sample.
struct Costs {
    /// Its makespan, as a multiple of the bare client's.
    slowness: f64,
    /// CPU time for each image, in milliseconds: user, system.
    cpu_ms: Option<(f64, f64)>,
    /// Memory without images and for each image, in bytes.
    memory: (u64, u64),
    /// Requests of the clients for each image.
    requests: u64,
    /// The server's requests to the store.
    operations: &'static [&'static str],
    /// Whether the bytes pass through the server.
    relays: bool,
    has_rows: bool,
}

fn costs(target: Target) -> Costs {
    const LINK: &[&str] = &["GetObject", "CopyObject", "DeleteObject"];
    let (slowness, cpu_ms, memory, requests, operations, relays, has_rows): (_, _, _, _, &[&str], _, _) = match target {
        Target::V1 => (1.25, Some((1.4, 3.2)), (24_000_000, 90_000), 3, &["PutObject", "DeleteObject"], true, true),
        Target::V2Post => (1.1, Some((0.5, 0.4)), (22_000_000, 20_000), 3, LINK, false, true),
        Target::V2Put => (1.08, Some((0.5, 0.4)), (22_000_000, 20_000), 3, LINK, false, true),
        Target::NodeV1 => (4.2, Some((30.0, 11.0)), (80_000_000, 4_200_000), 1, &["PutObject"], true, true),
        Target::Nginx => (1.15, Some((0.3, 3.7)), (8_000_000, 20_000), 1, &["PostObject"], true, false),
        Target::Direct => (1.0, None, (0, 0), 1, &[], false, false),
        other => panic!("the sample has no {other:?}"),
    };
    Costs { slowness, cpu_ms, memory, requests, operations, relays, has_rows }
}

/// The report.
pub fn report() -> Report {
    let burst = |images, rounds| Burst { images, rounds };
    let workload = Workload {
        image_bytes: IMAGE_BYTES,
        targets: vec![
            Target::Direct,
            Target::V1,
            Target::V2Post,
            Target::V2Put,
            Target::Nginx,
            Target::Nginx128k,
            Target::NodeV1,
        ],
        bursts: vec![burst(200, 3), burst(300, 3), burst(1000, 3)],
        sink_bursts: vec![burst(200, 2)],
        slow: vec![Slow { images: SLOW_IMAGES, rounds: 2, bytes_per_second: SLOW, targets: BOTH.to_vec() }],
        mixed: vec![Mixed { images: 100, slow_images: 900, rounds: 1, bytes_per_second: SLOW, targets: BOTH.to_vec() }],
        crossover: Some(Crossover {
            sizes: vec![Size { image_bytes: 50_000, images: 100 }, Size { image_bytes: IMAGE_BYTES, images: 40 }],
            rtt_ms: vec![0, 100],
            bytes_per_second: vec![None, Some(SLOW)],
            rounds: 1,
        }),
        warm_up_images: 5,
        retry: false,
        give_up_seconds: 30,
    };
    let mut runs = Vec::new();
    for (store, bursts) in [(Store::Minio, &workload.bursts), (Store::Sink, &workload.sink_bursts)] {
        for burst in bursts {
            for round in 1..=burst.rounds {
                let targets = workload.targets.iter().filter(|target| **target != Target::Nginx128k);
                runs.extend(targets.map(|target| run(*target, store, burst.images, round)));
            }
        }
    }
    for target in BOTH {
        runs.extend((1..=2).map(|round| slow(target, round)));
        runs.push(mixed(target));
        for (image_bytes, images) in [(50_000, 100), (IMAGE_BYTES, 40)] {
            for (rtt_ms, bytes_per_second) in [(0, None), (100, None), (0, Some(SLOW)), (100, Some(SLOW))] {
                runs.push(cell(target, image_bytes, images, Line { bytes_per_second, rtt_ms }));
            }
        }
    }
    let programs = [("minio", "RELEASE.2025-10-15"), ("node", "v20.19.0"), ("postgres", "15.14"), ("rustc", "1.95.0")];
    Report {
        version: VERSION,
        started_at: at("2026-11-25T10:00:00Z"),
        machine: Machine {
            cpu: "Example <Processor> & Sons 2.5 GHz".to_owned(),
            cpus: 2,
            memory_bytes: 16_000_000_000,
            kernel: "Linux 6.1.0".to_owned(),
            commit: "0123456789ab".to_owned(),
            programs: programs.map(|(program, version)| (program.to_owned(), version.to_owned())).into(),
            settings: [("image seed", "5"), ("postgres fsync", "on")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            limits: Limits::CgroupV1,
        },
        workload,
        runs,
        skipped: vec![Skipped { target: Target::Nginx128k, reason: "nginx is not installed".to_owned() }],
        complete: true,
    }
}

/// A round of slow clients. V1 does not serve all of them in its second round.
pub fn slow(target: Target, round: u32) -> Run {
    let mut run = run(target, Store::Minio, SLOW_IMAGES, round);
    run.case = Case::Slow;
    run.line = Line { bytes_per_second: Some(SLOW), rtt_ms: 0 };
    run.load.makespan_ms = if target == Target::V1 { 26_000.0 } else { 21_000.0 };
    if (target, round) == (Target::V1, 2) {
        run.load.successes -= 6;
        run.load.failures = [("503 overloaded".to_owned(), 6)].into();
    }
    run.load.histogram = histogram(run.load.successes, run.load.makespan_ms);
    run.load.steps.clear();
    run
}

/// A mixed round.
fn mixed(target: Target) -> Run {
    let mut run = run(target, Store::Minio, 100, 1);
    let alone = Load { histogram: histogram(100, run.load.makespan_ms / 2.0), ..run.load.clone() };
    let slow = Load { successes: 900, makespan_ms: 24_000.0, ..Load::default() };
    run.case = Case::Mixed;
    run.line = Line { bytes_per_second: Some(SLOW), rtt_ms: 0 };
    run.beside = Some(Beside { alone, slow_images: 900, slow });
    run
}

/// A round of a cell: with V1 fewer round trips, with V2 less CPU time for each byte.
fn cell(target: Target, image_bytes: u64, images: u32, line: Line) -> Run {
    let (round_trips, cpu_ms) = match target {
        Target::V1 => (4, 1.0 + image_bytes as f64 / 1e6),
        _ => (5, 1.5),
    };
    let mut run = run(target, Store::Minio, images, 1);
    let sending_ms = line.ideal_s(image_bytes).unwrap_or(0.02) * 1e3;
    run.case = Case::Crossover;
    run.image_bytes = image_bytes;
    run.line = line;
    run.load.makespan_ms = sending_ms + f64::from(round_trips * line.rtt_ms) + 25.0;
    run.load.histogram = histogram(images.into(), run.load.makespan_ms);
    run.load.steps.clear();
    let server = run.server.as_mut().unwrap();
    (server.cpu_user_ms, server.cpu_system_ms) = (0.0, eighths(cpu_ms * f64::from(images)));
    run
}

/// One round of the sample.
pub fn run(target: Target, store: Store, images: u32, round: u32) -> Run {
    let done = u64::from(images);
    let (ending, successes, failures) = match (target, store, images, round) {
        (Target::NodeV1, Store::Minio, 200, 2) => (Ending::Hung { after_ms: 30_000 }, 26, vec![("given up", 174)]),
        (Target::NodeV1, Store::Minio, 300.., _) => {
            let status = "signal 9, killed for memory".to_owned();
            (Ending::Died { status }, 4, vec![("connection", done - 4)])
        }
        (Target::V2Put, Store::Minio, 300, 1) => {
            let reason = "299 objects for 300 successes".to_owned();
            (Ending::Void { reason }, done, vec![])
        }
        (Target::V1, Store::Minio, 1000, 3) => (Ending::Finished, 985, vec![("503 overloaded", 15)]),
        _ => (Ending::Finished, done, vec![]),
    };
    let costs = costs(target);
    let pace = [1.0, 1.04, 0.97][(round as usize - 1) % 3];
    let discount = if store == Store::Sink { 0.3 } else { 1.0 };
    let makespan_ms = eighths((20.0 + 10.0 * f64::from(images)) * costs.slowness * pace * discount);
    let sent = u64::from(images) * IMAGE_BYTES;
    let (to_server, to_store) = if costs.relays { (sent, 0) } else { (0, sent) };
    let server_bytes = if target == Target::Direct { 0 } else { done * costs.requests * 600 };
    Run {
        target,
        store,
        case: Case::Burst,
        images,
        round,
        image_bytes: IMAGE_BYTES,
        line: Line::default(),
        started_at: at("2026-11-25T10:00:00Z"),
        load: Load {
            successes,
            failures: failures.into_iter().map(|(class, count)| (class.to_owned(), count)).collect(),
            requests: done * costs.requests,
            retries: 0,
            bytes_to_server: to_server + server_bytes,
            bytes_from_server: server_bytes / 2,
            bytes_to_store: to_store,
            bytes_from_store: to_store / 10_000,
            makespan_ms,
            histogram: histogram(successes, makespan_ms),
            steps: steps(costs.requests, successes, makespan_ms),
        },
        beside: None,
        proxy: None,
        server: costs
            .cpu_ms
            .map(|(user, system)| usage(&costs, (user * pace, system * pace), images, makespan_ms, &ending)),
        store_cpu_ms: (store != Store::Sink).then_some(eighths(14.5 * f64::from(images) * pace)),
        generator_cpu_ms: Some(eighths(1.5 * f64::from(images) * pace)),
        stolen_ms: Some(if (target, images, round) == (Target::V1, 200, 2) { 30.0 } else { 0.0 }),
        server_to_store: (store == Store::Sink && costs.cpu_ms.is_some()).then(|| traffic(&costs, done)),
        verified: (ending == Ending::Finished).then(|| Verified {
            objects: successes,
            rows: costs.has_rows.then_some(successes),
            checksums: successes.min(200),
        }),
        ending,
    }
}

/// Rounded to a value that JSON keeps exactly.
fn eighths(value: f64) -> f64 {
    (value * 8.0).round() / 8.0
}

/// Create, upload and link; none for a target of one request.
fn steps(requests: u64, successes: u64, makespan_ms: f64) -> BTreeMap<Step, String> {
    let shares = [(Step::Create, 0.125), (Step::Upload, 0.5), (Step::Link, 0.375)];
    let taken = if requests > 1 { usize::try_from(requests).unwrap() } else { 0 };
    shares.into_iter().take(taken).map(|(step, share)| (step, histogram(successes, makespan_ms * share))).collect()
}

/// Latencies spread evenly up to the makespan.
pub fn histogram(successes: u64, makespan_ms: f64) -> String {
    let mut histogram = latency::histogram().unwrap();
    for image in 1..=successes {
        histogram.record((makespan_ms * 1e3 * image as f64 / successes as f64) as u64).unwrap();
    }
    latency::encode(&histogram).unwrap()
}

fn usage(costs: &Costs, (user, system): (f64, f64), images: u32, makespan_ms: f64, ending: &Ending) -> Usage {
    const LIMIT: u64 = 1 << 30;
    let peak = (costs.memory.0 + costs.memory.1 * u64::from(images)).min(LIMIT);
    let shown_ms = if let Ending::Hung { after_ms } = ending { *after_ms as f64 } else { makespan_ms };
    let memory = (0..=20_u64).map(|step| MemorySample {
        at_ms: (shown_ms * step as f64 / 20.0) as u64,
        rss_bytes: costs.memory.0 + (peak - costs.memory.0) * step.min(5) / 5,
        cgroup_bytes: Some(costs.memory.0 + (peak - costs.memory.0) * step.min(5) / 5),
    });
    Usage {
        cpu_user_ms: eighths(user * f64::from(images)),
        cpu_system_ms: eighths(system * f64::from(images)),
        peak_rss_bytes: peak - 2_000_000,
        peak_cgroup_bytes: Some(peak),
        memory: memory.collect(),
    }
}

fn traffic(costs: &Costs, images: u64) -> Traffic {
    let requests: BTreeMap<String, u64> = costs.operations.iter().map(|name| ((*name).to_owned(), images)).collect();
    let relayed = if costs.relays { IMAGE_BYTES + 900 } else { 1500 };
    let read = if costs.operations.contains(&"GetObject") { 262_144 + 900 } else { 300 };
    Traffic { requests, bytes_to_store: images * relayed, bytes_from_store: images * read }
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}
