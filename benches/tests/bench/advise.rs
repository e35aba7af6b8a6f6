//! The advice from fixed figures: its text, and which fact decides.

use clap::Parser;
use upload_bench::{
    advise::{self, AdviseCommand, Question, advise},
    payload::parse_size,
    record::{Case, Report, Store, Target},
    report,
};

use crate::{fixtures::assert_fixture, sample};

#[derive(Debug, Parser)]
struct CommandLine {
    #[command(flatten)]
    command: AdviseCommand,
}

const QUESTION: Question = Question {
    images_per_day: 100_000,
    size: sample::IMAGE_BYTES,
    peak: 250,
    client_rate: None,
    rtt: 0,
    egress_price: None,
    request_price: None,
    read_price: None,
    private_bucket: false,
};

fn recommendation(report: &Report, question: Question) -> String {
    let text = advise(report, question).unwrap();
    text.lines().find_map(|line| line.strip_prefix("Recommendation: ")).unwrap().to_owned()
}

#[test]
fn the_advice_is_the_one_that_is_written_down() {
    let question =
        Question { egress_price: Some(0.09), request_price: Some(0.005), read_price: Some(0.0004), ..QUESTION };
    assert_fixture("advice.txt", &(advise(&sample::report(), question).unwrap() + "\n"));
}

#[test]
fn a_peak_beyond_what_was_measured_is_said_plainly() {
    let within = advise(&sample::report(), QUESTION).unwrap();
    assert!(within.contains("those of 300 at once, the smallest measured number that covers your peak"), "{within}");
    let beyond = advise(&sample::report(), Question { peak: 1100, ..QUESTION }).unwrap();
    assert!(
        beyond.contains("those of 1,000 at once, the most that was measured. Your peak is beyond that."),
        "{beyond}"
    );
}

#[test]
fn another_size_than_the_measured_one_is_said_plainly() {
    let text = advise(&sample::report(), Question { size: 100_000, ..QUESTION }).unwrap();
    assert!(text.contains("Your size was not measured."), "{text}");
    // 4.6 ms for 5 MB are 0.92 CPU-seconds for each GB.
    assert!(text.contains("V1: 0.920 CPU-seconds for each GB × 0.0001 GB × 100,000 = 9.20 CPU-seconds"), "{text}");
}

#[test]
fn slow_clients_and_their_round_trips_are_taken_into_account() {
    let question = Question { client_rate: Some(sample::SLOW), rtt: 90, ..QUESTION };
    let text = advise(&sample::report(), question).unwrap();
    for expected in [
        "V1: 5 MB / 2 Mbit/s + 4 round trips × 90 ms = 20.4 s",
        "V2: 5 MB / 2 Mbit/s + 5 round trips × 90 ms = 20.4 s",
        "measured with 5 MB at 2 Mbit/s and 100 ms, until linked: V1 10.",
        // The cell's CPU time, not the burst's.
        "V1: 6.00 ms for each image on the nearest measured line × 100,000",
        "V1: 98 % of 300 images at 2 Mbit/s each, 1.30 times the ideal time",
        "V1 did not serve every image of 300 slow clients in the report.",
        "Recommendation: deploy V2.",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let mut report = sample::report();
    report.runs.retain(|run| run.case == Case::Burst);
    let text = advise(&report, question).unwrap();
    assert!(text.contains("not measured: add the report of benches/workloads/crossover.json"), "{text}");
    assert!(text.contains("not measured: the report has no slow rounds"), "{text}");
}

#[test]
fn a_private_bucket_decides_for_v1() {
    let question = Question { private_bucket: true, ..QUESTION };
    assert_eq!(recommendation(&sample::report(), question), "deploy V1.");
}

#[test]
fn a_peak_that_v1_refuses_decides_for_v2() {
    let text = advise(&sample::report(), Question { peak: 1300, ..QUESTION }).unwrap();
    assert!(text.contains("V1 would answer 503 to 68 of the 1,300 images of the peak."), "{text}");
    assert!(text.contains("Recommendation: deploy V2."), "{text}");
}

#[test]
fn images_that_failed_in_the_report_decide_for_the_other() {
    let question = Question { peak: 800, ..QUESTION };
    let text = advise(&sample::report(), question).unwrap();
    assert!(text.contains("V1 did not serve every image in the report with 1,000 at once."), "{text}");
    assert!(text.contains("Recommendation: deploy V2."), "{text}");
}

#[test]
fn the_price_decides_where_both_serve_the_peak() {
    let report = sample::report();
    // Small images: V2's requests cost more than V1's bytes.
    let dear = Question { egress_price: Some(0.01), request_price: Some(5.0), size: 10_000, ..QUESTION };
    assert_eq!(recommendation(&report, dear), "deploy V1.");
    let bytes = Question { egress_price: Some(0.09), request_price: Some(0.005), ..QUESTION };
    assert_eq!(recommendation(&report, bytes), "deploy V2.");
}

#[test]
fn cpu_time_decides_where_nothing_has_a_price_and_only_if_there_is_enough_of_it() {
    let report = sample::report();
    assert_eq!(recommendation(&report, Question { images_per_day: 10_000_000, ..QUESTION }), "deploy V2.");
    assert_eq!(recommendation(&report, Question { images_per_day: 1000, ..QUESTION }), "deploy V1.");
}

#[test]
fn a_report_without_the_runs_that_are_needed_is_refused_in_a_sentence() {
    let error_of = |keep: fn(Target, Store) -> bool| {
        let mut report = sample::report();
        report.runs.retain(|run| keep(run.target, run.store));
        advise(&report, QUESTION).unwrap_err().to_string()
    };
    assert!(error_of(|target, _store| target != Target::V1).contains("no finished rounds of v1 and of v2-post"));
    assert!(error_of(|_target, store| store == Store::Sink).contains("no finished rounds of v1 and of v2-post"));
    assert!(error_of(|_target, store| store != Store::Sink).contains("no round of v1 on the null sink"));
}

#[test]
fn the_command_reads_its_report_and_its_sizes() {
    let folder = tempfile::tempdir().unwrap();
    report::write(&sample::report(), folder.path()).unwrap();
    let file = folder.path().join("report.json");
    let arguments = |size: &str| {
        let report = file.to_str().unwrap();
        let load = ["--images-per-day", "100000", "--size", size, "--peak", "250"];
        CommandLine::try_parse_from(["advise", "--report", report].into_iter().chain(load))
    };
    let command = arguments("5mb").unwrap().command;
    assert_eq!(command.question, QUESTION);
    assert_eq!(command.run().unwrap(), advise(&sample::report(), QUESTION).unwrap());
    // The bursts of one report and the crossover of another.
    let other = tempfile::tempdir().unwrap();
    let (mut bursts, mut cells) = (sample::report(), sample::report());
    bursts.runs.retain(|run| run.case == Case::Burst);
    cells.runs.retain(|run| run.case == Case::Crossover);
    report::write(&bursts, folder.path()).unwrap();
    report::write(&cells, other.path()).unwrap();
    let question = Question { rtt: 100, ..QUESTION };
    let both = AdviseCommand { report: vec![file.clone(), other.path().join("report.json")], question };
    assert!(both.run().unwrap().contains("measured with 5 MB at no limit and 100 ms"));
    let error = arguments("big").unwrap_err().to_string();
    assert!(error.contains("big is not a size"), "{error}");
    let missing = AdviseCommand { report: vec![folder.path().join("none.json")], ..command };
    assert!(missing.run().unwrap_err().to_string().contains("none.json"));
}

#[test]
fn sizes_have_units_of_1000_or_1024_and_nothing_else() {
    let sizes = ["5000000", "5mb", "5 MB", "1.5MiB", "100kb", "1gb", "147 KB", "12 bytes", "7b"];
    let read: Vec<u64> = sizes.iter().map(|size| parse_size(size).unwrap()).collect();
    assert_eq!(read, [5_000_000, 5_000_000, 5_000_000, 1_572_864, 100_000, 1_000_000_000, 147_000, 12, 7]);
    for wrong in ["", "mb", "-5mb", "0", "5 tb", "inf", "nan", "1e400", "5mb5"] {
        assert!(parse_size(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn v1s_limits_are_those_of_the_example_environment() {
    let example = include_str!("../../../.env.example");
    let line = |name: &str, value: u64| format!("#{name}={value}");
    for expected in [
        line("UPLOADS_ACTIVE", advise::ACTIVE_UPLOADS),
        line("UPLOADS_WAITING", advise::WAITING_UPLOADS),
        line("UPLOADS_WAIT_SECONDS", advise::LONGEST_WAIT_SECONDS),
    ] {
        assert!(example.lines().any(|line| line == expected), "{expected}");
    }
}
