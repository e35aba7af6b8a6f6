//! The report from fixed figures: its text, its figures, and the files that it refuses.

use std::{fs, path::Path};

use upload_bench::{
    record::{Ending, Report, Run, Store, Target},
    report::{
        self,
        figures::{self, Figures},
        spread::{Spread, bytes, number, percent, trimmed},
        summary,
    },
};

use crate::{fixtures::assert_fixture, sample};

/// A report with these rounds only.
fn with(runs: Vec<Run>) -> Report {
    Report { runs, ..sample::report() }
}

fn only(figures: &[Figures], target: Target) -> &Figures {
    let mut rows = figures.iter().filter(|row| row.target == target);
    let row = rows.next().unwrap();
    assert!(rows.next().is_none());
    row
}

fn summary_of(report: &Report) -> String {
    summary::opening(report, &figures::of(report).unwrap()).join("\n")
}

fn page(report: &Report) -> String {
    let folder = tempfile::tempdir().unwrap();
    report::write(report, folder.path()).unwrap();
    fs::read_to_string(folder.path().join("report.html")).unwrap()
}

#[test]
fn the_terminal_shows_the_fixture_in_at_most_120_columns() {
    let text = report::terminal(&sample::report()).unwrap();
    let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 120).collect();
    assert_eq!(wide, Vec::<&str>::new());
    assert_fixture("terminal.txt", &text);
}

#[test]
fn a_report_without_rounds_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let report = with(Vec::new());
    assert!(report::terminal(&report).unwrap().contains("No round has finished yet."));
    report::write(&report, folder.path()).unwrap();
    assert_eq!(report::read(&folder.path().join("report.json")).unwrap(), report);
}

#[test]
fn medians_have_their_range_and_leave_out_what_did_not_finish() {
    let mut runs: Vec<Run> = (1..=4).map(|round| sample::run(Target::V1, Store::Minio, 100, round)).collect();
    for (run, makespan_ms) in runs.iter_mut().zip([1000.0, 4000.0, 2000.0, 50.0]) {
        run.load.makespan_ms = makespan_ms;
    }
    runs[3].ending = Ending::Hung { after_ms: 1000 };
    let figures = figures::of(&with(runs)).unwrap();
    let row = only(&figures, Target::V1);
    assert_eq!((row.finished, row.unfinished.len()), (3, 1));
    assert_eq!(row.makespan_s, Some(Spread { median: 2.0, least: 1.0, most: 4.0 }));
    assert_eq!(row.images_per_s, Some(Spread { median: 50.0, least: 25.0, most: 100.0 }));
    assert_eq!(row.success_percent, Some(Spread { median: 100.0, least: 100.0, most: 100.0 }));
    assert!(row.stops() && !row.is_whole());
}

#[test]
fn the_median_of_an_even_number_of_rounds_is_between_the_middle_two() {
    assert_eq!(Spread::of([4.0, 1.0, 2.0, 100.0]), Some(Spread { median: 3.0, least: 1.0, most: 100.0 }));
    assert_eq!(Spread::of([]), None);
    assert_eq!(Spread::of([f64::NAN, f64::INFINITY]), None);
}

#[test]
fn cpu_time_is_for_each_gb_of_images_that_succeeded() {
    let mut run = sample::run(Target::V1, Store::Minio, 400, 1);
    let server = run.server.as_mut().unwrap();
    (server.cpu_user_ms, server.cpu_system_ms) = (300.0, 700.0);
    // 200 of 400 images of 5 MB are one GB.
    run.load.successes = 200;
    run.load.steps.clear();
    run.load.histogram = sample::histogram(200, 1000.0);
    run.store_cpu_ms = Some(2900.0);
    let figures = figures::of(&with(vec![run])).unwrap();
    let row = only(&figures, Target::V1);
    let cost = row.server.unwrap();
    assert_eq!((cost.cpu_s_per_gb.median, cost.cpu_ms_per_image.median), (1.0, 5.0));
    assert_eq!(row.store_cpu_s_per_gb.unwrap().median, 2.9);
    assert_eq!(row.success_percent.unwrap().median, 50.0);
}

#[test]
fn percentiles_are_those_of_all_rounds_together() {
    let mut runs: Vec<Run> = (1..=2).map(|round| sample::run(Target::V1, Store::Minio, 100, round)).collect();
    // 100 images within 1 s and 100 within 3 s, evenly: 150 took no longer than 1.5 s.
    for (run, makespan_ms) in runs.iter_mut().zip([1000.0, 3000.0]) {
        run.load.histogram = sample::histogram(100, makespan_ms);
    }
    let figures = figures::of(&with(runs)).unwrap();
    let latency = only(&figures, Target::V1).latency.unwrap();
    let near = |value: f64, expected: f64| assert!((value / expected - 1.0).abs() < 0.002, "{value} is not {expected}");
    near(latency.p50_s, 0.75);
    near(latency.p90_s, 2.4);
    near(latency.p99_s, 2.94);
    near(latency.max_s, 3.0);
}

#[test]
fn ratios_compare_the_same_rounds_and_only_where_both_served_every_image() {
    let mut runs = Vec::new();
    for (round, direct_ms, v1_ms) in [(1, 1000.0, 1500.0), (2, 2000.0, 2200.0), (3, 100.0, 900.0)] {
        for (target, makespan_ms) in [(Target::Direct, direct_ms), (Target::V1, v1_ms)] {
            let mut run = sample::run(target, Store::Minio, 100, round);
            run.load.makespan_ms = makespan_ms;
            runs.push(run);
        }
    }
    // The third round of the bare client did not serve every image.
    runs[4].load.successes = 99;
    runs[4].load.histogram = sample::histogram(99, 100.0);
    let figures = figures::of(&with(runs)).unwrap();
    let ratio = only(&figures, Target::V1).ratio(Target::Direct).unwrap();
    assert_eq!(ratio.makespan, Some(Spread { median: 1.3, least: 1.1, most: 1.5 }));
    assert_eq!(ratio.cpu, None);
    assert_eq!(only(&figures, Target::Direct).ratio(Target::Direct), None);
}

#[test]
fn the_servers_requests_to_the_store_come_from_the_rounds_on_the_sink() {
    let runs = vec![sample::run(Target::V2Post, Store::Minio, 200, 1), sample::run(Target::V2Post, Store::Sink, 50, 1)];
    let image = figures::per_image(&with(runs.clone()), Target::V2Post, sample::IMAGE_BYTES).unwrap();
    let server = image.server.as_ref().unwrap();
    let requests: Vec<(&str, f64)> = server.requests.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    assert_eq!(requests, [("CopyObject", 1.0), ("DeleteObject", 1.0), ("GetObject", 1.0)]);
    assert_eq!((server.to_store, server.from_store), (1500.0, 263_044.0));
    assert_eq!((image.requests, image.to_store, image.billed()), (3.0, 5e6, Some(3.0)));
    let without = figures::per_image(&with(runs[..1].to_vec()), Target::V2Post, sample::IMAGE_BYTES).unwrap();
    assert_eq!((without.server.as_ref(), without.billed()), (None, None));
}

#[test]
fn a_void_round_is_in_no_figure_and_is_no_failure_of_its_target() {
    let report = sample::report();
    let figures = figures::of(&report).unwrap();
    let row = figures::find(&figures, Target::V2Put, Store::Minio, 300).unwrap();
    assert_eq!((row.finished, row.stops()), (2, false));
    assert!(row.unfinished[0].reason.contains("299 objects for 300 successes"));
    assert!(summary_of(&report).contains("Void rounds, which are in no figure: 1."));
}

#[test]
fn no_server_is_faster_if_rounds_overlap() {
    let mut runs = Vec::new();
    for (round, v1_ms, v2_ms) in [(1, 1000.0, 1100.0), (2, 1200.0, 1050.0)] {
        for (target, makespan_ms) in [(Target::V1, v1_ms), (Target::V2Post, v2_ms)] {
            let mut run = sample::run(target, Store::Minio, 200, round);
            run.load.makespan_ms = makespan_ms;
            runs.push(run);
        }
    }
    let summary = summary_of(&with(runs));
    assert!(summary.contains("Their rounds overlap, so none is faster."), "{summary}");
}

#[test]
fn a_histogram_that_does_not_fit_its_round_is_refused_by_name() {
    let mut run = sample::run(Target::V1, Store::Minio, 200, 3);
    run.load.histogram = sample::histogram(199, 1000.0);
    let error = figures::of(&with(vec![run.clone()])).unwrap_err().to_string();
    assert!(error.contains("v1 with 200 images") && error.contains("round 3"), "{error}");
    run.load.histogram = "broken".to_owned();
    let error = report::terminal(&with(vec![run])).unwrap_err().to_string();
    assert!(error.contains("v1 with 200 images"), "{error}");
}

#[test]
fn a_written_report_can_be_read_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("new/folder");
    let report = sample::report();
    report::write(&report, &inner).unwrap();
    report::write(&report, &inner).unwrap();
    assert!(report::read(&inner.join("report.json")).unwrap() == report);
    let mut names: Vec<_> =
        fs::read_dir(&inner).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["machine.txt", "report.html", "report.json"]);
    assert_fixture("machine.txt", &fs::read_to_string(inner.join("machine.txt")).unwrap());
}

#[test]
fn the_committed_runs_can_be_read_and_shown() {
    let runs = Path::new(env!("CARGO_MANIFEST_DIR")).join("runs");
    for run in fs::read_dir(runs).unwrap() {
        let report = report::read(&run.unwrap().path().join("report.json")).unwrap();
        report::terminal(&report).unwrap();
    }
}

#[test]
fn a_file_that_is_not_a_report_of_this_version_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let refused = |text: &str, reason: &str| {
        fs::write(&path, text).unwrap();
        let error = format!("{:#}", report::read(&path).unwrap_err());
        assert!(error.contains(path.to_str().unwrap()) && error.contains(reason), "{error}");
    };
    refused("no JSON", "is not a report");
    refused("{}", "is not a report");
    refused(r#"{"version": 1}"#, "is not a valid report");
    refused(r#"{"version": 2}"#, "is a report of version 2; this program reads version 1");
    let error = format!("{:#}", report::read(Path::new("/nowhere/report.json")).unwrap_err());
    assert!(error.starts_with("cannot read /nowhere/report.json"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_created_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = format!("{:#}", report::write(&sample::report(), &file.join("inner")).unwrap_err());
    assert!(error.contains("cannot create the folder") && error.contains("file/inner"), "{error}");
}

#[test]
fn the_page_needs_no_other_file_and_is_well_formed() {
    let page = page(&sample::report());
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    for word in ["http://", "https://", "<script", "<link", "@import", "url("] {
        assert!(!outside.contains(word), "{word}");
    }
    assert_well_formed(&page);
    // Two heat maps and two plots of MinIO, and one of the sink: one number of images makes no line of makespans.
    assert_eq!(page.matches("<figure>").count(), 5);
    assert!(page.contains("Time until an image is linked: V1 against V2 (presigned POST), on a real MinIO"));
    // Two sizes, two rates and two round trips.
    assert_eq!(page.matches("<rect").count(), 2 * 8);
    assert!(page.contains("Makespan by images at once, on a real MinIO"));
    assert!(page.contains("Memory over time, 1,000 images at once, on a real MinIO"));
    assert!(page.contains("Example &lt;Processor&gt; &amp; Sons"));
    assert!(page.contains("Published elsewhere, on another machine"));
}

#[test]
fn an_incomplete_report_says_so() {
    let report = Report { complete: false, ..with(vec![sample::run(Target::Direct, Store::Embedded, 1, 1)]) };
    let page = page(&report);
    assert_well_formed(&page);
    assert!(page.contains("This report is incomplete"));
}

/// Every tag is closed, in the right order.
fn assert_well_formed(page: &str) {
    let mut open = Vec::new();
    for piece in page.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').unwrap();
        assert!(!text.contains('>') || open.last() == Some(&"style"), "a loose > after <{tag}>");
        let name = tag.split_whitespace().next().unwrap();
        if let Some(closed) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "</{closed}>");
        } else if !tag.ends_with('/') && !["!DOCTYPE", "meta"].contains(&name) {
            open.push(name);
        }
    }
    assert_eq!(open, Vec::<&str>::new());
}

#[test]
fn numbers_have_three_digits_and_only_all_is_a_hundred_percent() {
    let numbers = [0.0, 0.01234, 0.1234, 0.9996, 1.234, 9.996, 25.94, 99.96, 1234.5].map(number);
    assert_eq!(numbers, ["0", "0.0123", "0.123", "1.00", "1.23", "10.0", "25.9", "100", "1234"]);
    assert_eq!([100.0, 99.999, 98.5, 29.0 / 100.0 * 100.0, 0.0].map(percent), ["100", "99.9", "98.5", "29", "0"]);
    assert_eq!([5e6, 1_500.0, 999.0, 2.05e9].map(bytes), ["5 MB", "1.5 kB", "999 B", "2.05 GB"]);
    assert_eq!([4.0, 100.0, 1.5].map(trimmed), ["4", "100", "1.5"]);
}
