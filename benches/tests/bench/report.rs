//! The report from fixed figures: what it says word by word, what it computes, and what it refuses to read.

use std::{fs, path::Path};

use upload_bench::{
    record::{Ending, Report, Run, Store, Target},
    report::{
        self,
        figures::{self, Figures},
        spread::{Spread, bytes, number, percent, trimmed},
        words,
    },
};

use crate::{fixtures::settle, sample};

/// A report with these rounds and nothing else.
fn with(runs: Vec<Run>) -> Report {
    Report { runs, ..sample::report() }
}

fn only(figures: &[Figures], target: Target) -> &Figures {
    let mut rows = figures.iter().filter(|row| row.target == target);
    let row = rows.next().unwrap();
    assert!(rows.next().is_none());
    row
}

#[test]
fn the_words_and_the_tables_are_those_that_are_written_down() {
    settle("terminal.txt", &report::terminal(&sample::report()));
}

#[test]
fn no_line_on_the_terminal_is_wider_than_120_characters() {
    let text = report::terminal(&sample::report());
    let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 120).collect();
    assert_eq!(wide, Vec::<&str>::new());
}

#[test]
fn an_incomplete_report_says_so() {
    let report = Report { complete: false, ..sample::report() };
    assert!(report::terminal(&report).contains("This report is incomplete"));
}

#[test]
fn a_report_without_any_round_is_shown_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let report = with(Vec::new());
    assert!(report::terminal(&report).contains("0 rounds in all"));
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
    assert_eq!(row.megabytes_per_s, Some(Spread { median: 250.0, least: 125.0, most: 500.0 }));
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
    let cost = row.server.as_ref().unwrap();
    assert_eq!((cost.user_s_per_gb.median, cost.system_s_per_gb.median), (0.3, 0.7));
    assert_eq!((cost.cpu_s_per_gb.median, cost.cpu_ms_per_image.median), (1.0, 5.0));
    assert_eq!(row.store_cpu_s_per_gb.unwrap().median, 2.9);
    assert_eq!(row.success_percent.unwrap().median, 50.0);
}

#[test]
fn percentiles_are_those_of_all_rounds_together() {
    let mut runs: Vec<Run> = (1..=2).map(|round| sample::run(Target::V1, Store::Minio, 100, round)).collect();
    // 100 images in 1 s and 100 in 3 s, evenly: 150 took no longer than 1.5 s.
    for (run, makespan_ms) in runs.iter_mut().zip([1000.0, 3000.0]) {
        run.load.histogram = sample::histogram(100, makespan_ms);
    }
    let figures = figures::of(&with(runs)).unwrap();
    let latency = only(&figures, Target::V1).latency.clone().unwrap();
    let near = |value: f64, expected: f64| assert!((value / expected - 1.0).abs() < 0.002, "{value} is not {expected}");
    near(latency.p50_s, 0.75);
    near(latency.p90_s, 2.4);
    near(latency.p99_s, 2.94);
    near(latency.max_s, 3.0);
}

#[test]
fn ratios_are_made_round_by_round_and_only_where_both_served_everything() {
    let mut runs = Vec::new();
    for (round, direct_ms, v1_ms) in [(1, 1000.0, 1500.0), (2, 2000.0, 2200.0), (3, 100.0, 900.0)] {
        let mut direct = sample::run(Target::Direct, Store::Minio, 100, round);
        direct.load.makespan_ms = direct_ms;
        let mut v1 = sample::run(Target::V1, Store::Minio, 100, round);
        v1.load.makespan_ms = v1_ms;
        runs.extend([direct, v1]);
    }
    // The third round of the bare client did not serve everything.
    runs[4].load.successes = 99;
    runs[4].load.histogram = sample::histogram(99, 100.0);
    let figures = figures::of(&with(runs)).unwrap();
    let ratio = *only(&figures, Target::V1).ratio(Target::Direct).unwrap();
    assert_eq!(ratio.rounds, 2);
    assert_eq!(ratio.makespan, Some(Spread { median: 1.3, least: 1.1, most: 1.5 }));
    assert_eq!(ratio.cpu, None);
    assert_eq!(only(&figures, Target::Direct).ratio(Target::Direct), None);
}

#[test]
fn what_a_server_asks_of_the_store_comes_from_the_runs_on_the_sink() {
    let runs = vec![sample::run(Target::V2Post, Store::Minio, 200, 1), sample::run(Target::V2Post, Store::Sink, 50, 1)];
    let figures = figures::of(&with(runs)).unwrap();
    let row = figures::find(&figures, Target::V2Post, Store::Minio, 200).unwrap();
    let sum = row.server_to_store.clone().unwrap();
    let requests: Vec<(&str, f64)> = sum.requests.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    assert_eq!(requests, [("CopyObject", 1.0), ("DeleteObject", 1.0), ("GetObject", 1.0)]);
    assert_eq!((sum.bytes_to_store, sum.bytes_from_store), (1500.0, 263_044.0));
}

#[test]
fn a_void_round_is_in_no_figure_and_does_not_stop_its_target() {
    let figures = figures::of(&sample::report()).unwrap();
    let row = figures::find(&figures, Target::V2Put, Store::Minio, 50).unwrap();
    assert_eq!((row.finished, row.stops()), (2, false));
    assert!(row.unfinished[0].reason.contains("49 objects for 50 successes"));
    let lead = words::lead(&sample::report(), &figures).join("\n");
    assert!(lead.contains("1 round is void"), "{lead}");
}

#[test]
fn rounds_that_overlap_have_no_winner() {
    let mut runs = Vec::new();
    for (round, v1_ms, v2_ms) in [(1, 1000.0, 1100.0), (2, 1200.0, 1050.0)] {
        for (target, makespan_ms) in [(Target::V1, v1_ms), (Target::V2Post, v2_ms)] {
            let mut run = sample::run(target, Store::Minio, 200, round);
            run.load.makespan_ms = makespan_ms;
            runs.push(run);
        }
    }
    let report = with(runs);
    let lead = words::lead(&report, &figures::of(&report).unwrap()).join("\n");
    assert!(lead.contains("their rounds overlap"), "{lead}");
}

#[test]
fn a_histogram_that_does_not_fit_its_run_is_refused_by_name() {
    let mut run = sample::run(Target::V1, Store::Minio, 200, 3);
    run.load.histogram = sample::histogram(199, 1000.0);
    let error = figures::of(&with(vec![run.clone()])).unwrap_err().to_string();
    assert!(error.contains("v1 with 200 images") && error.contains("round 3"), "{error}");
    run.load.histogram = "broken".to_owned();
    let report = with(vec![run]);
    assert!(report::terminal(&report).contains("cannot be shown"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    fs::write(&path, serde_json::to_string(&report).unwrap()).unwrap();
    let error = format!("{:#}", report::read(&path).unwrap_err());
    assert!(error.contains("is a broken report") && error.contains("v1 with 200 images"), "{error}");
}

#[test]
fn what_was_written_is_read_again_and_replaced_whole() {
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
    settle("machine.txt", &fs::read_to_string(inner.join("machine.txt")).unwrap());
}

#[test]
fn a_file_that_is_no_report_of_this_version_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let refused = |text: &str, reason: &str| {
        fs::write(&path, text).unwrap();
        let error = format!("{:#}", report::read(&path).unwrap_err());
        assert!(error.contains(path.to_str().unwrap()) && error.contains(reason), "{error}");
    };
    refused("no JSON", "is no report");
    refused("{}", "is no report");
    refused(r#"{"version": 1}"#, "is a broken report");
    refused(r#"{"version": 2}"#, "is a report of version 2; this program reads version 1");
    let error = format!("{:#}", report::read(Path::new("/nowhere/report.json")).unwrap_err());
    assert!(error.starts_with("/nowhere/report.json cannot be read"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = format!("{:#}", report::write(&sample::report(), &file.join("inner")).unwrap_err());
    assert!(error.contains("the folder") && error.contains("file/inner cannot be made"), "{error}");
}

#[test]
fn the_page_needs_nothing_beside_itself_and_is_well_formed() {
    let page = page(&sample::report());
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    for word in ["http://", "https://", "<script", "<link", "@import", "url("] {
        assert!(!outside.contains(word), "{word}");
    }
    assert_well_formed(&page);
    // Six plots of MinIO (two of memory) and three of the sink, where only one number of images was asked.
    assert_eq!(page.matches("<figure>").count(), 9);
    assert_eq!(page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count(), 9);
    for title in [
        "Makespan against",
        "Throughput against",
        "Latency by percentile",
        "Memory over time",
        "CPU time of the servers",
    ] {
        assert!(page.contains(title), "{title}");
    }
    assert!(page.contains("Example &lt;Processor&gt; &amp; Sons"));
    assert!(page.contains("published elsewhere, another machine"));
    if let Some(path) = std::env::var_os("SAMPLE_PAGE") {
        fs::write(path, page).unwrap();
    }
}

#[test]
fn the_page_of_an_incomplete_report_says_so() {
    let report = Report { complete: false, ..with(vec![sample::run(Target::Direct, Store::Embedded, 1, 1)]) };
    let page = page(&report);
    assert_well_formed(&page);
    assert!(page.contains("This report is incomplete."));
}

fn page(report: &Report) -> String {
    let folder = tempfile::tempdir().unwrap();
    report::write(report, folder.path()).unwrap();
    fs::read_to_string(folder.path().join("report.html")).unwrap()
}

/// Every tag that is opened is closed, in its order.
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
