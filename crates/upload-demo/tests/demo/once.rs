//! `--once`: the table, the exit code, and the message when something is missing.

use std::ops::RangeInclusive;

use crate::process::Demo;

const PHOTOGRAPH_BYTES: u64 = 60_270;
const LARGE_BYTES: u64 = 5_000_000;
/// The bytes that HTTP heads, forms and JSON may add to the files.
const OVERHEAD: u64 = 20_000;
/// The bytes of a file that V2 reads before it links it.
const HEAD_BYTES: u64 = 256 * 1024;

struct Row {
    name: String,
    uploaded: String,
    linked: String,
    /// Requests to server and store, bytes client-server, server-store and client-store, milliseconds.
    figures: Vec<u64>,
    outcome: String,
}

fn rows(table: &str) -> Vec<Row> {
    let lines =
        table.lines().filter(|line| ["photograph", "made JPEG", "all of them"].iter().any(|name| line.contains(name)));
    let cells = lines.map(|line| {
        let line = line.trim().trim_matches('│');
        line.split(['│', '┆']).map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    });
    let row = |cells: Vec<String>| {
        let requests = cells[3].split(", ").map(str::to_owned);
        let figures = requests.chain(cells[4..8].iter().map(|cell| cell.replace(',', "")));
        let figures = figures.map(|figure| figure.parse().unwrap()).collect();
        Row {
            name: cells[0].clone(),
            uploaded: cells[1].clone(),
            linked: cells[2].clone(),
            figures,
            outcome: cells[8].clone(),
        }
    };
    cells.map(row).collect()
}

fn about(bytes: u64) -> RangeInclusive<u64> {
    bytes..=bytes + OVERHEAD
}

#[test]
fn once_shows_every_way_of_both_files_and_ends_well() {
    let output = Demo::new(&["--once"]).run();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}\n{stderr}");
    let mut rows = rows(&stdout);
    let read = rows.pop().unwrap();

    let ways: Vec<_> = rows.iter().map(|row| [&*row.name, &*row.uploaded, &*row.linked]).collect();
    let (photograph, large) = ("photograph, 60,270", "made JPEG, 5,000,000");
    let expected = [
        [photograph, "V1, one request", "V1"],
        [photograph, "V1, form", "V1"],
        [photograph, "V2, form", "V2"],
        [large, "V1, one request", "V1"],
        [large, "V1, form", "V1"],
        [large, "V2, form", "V2"],
        [large, "V1, form", "V2"],
        [large, "V2, form", "V1"],
    ];
    assert_eq!(ways, expected, "{stdout}");

    for row in &rows {
        let bytes = if row.name == photograph { PHOTOGRAPH_BYTES } else { LARGE_BYTES };
        let [to_server, to_store, client_server, server_store, client_store, _time] = row.figures[..] else {
            panic!("{stdout}")
        };
        assert_eq!(row.outcome, "same");
        if row.uploaded.starts_with("V1") {
            let requests = if row.uploaded == "V1, form" { 3 } else { 2 };
            assert_eq!((to_server, to_store, client_store), (requests, 0, 0), "{stdout}");
            assert!(about(bytes).contains(&client_server), "V1 takes the file itself: {stdout}");
            assert!(about(bytes).contains(&server_store), "and hands it on: {stdout}");
        } else {
            assert_eq!((to_server, to_store), (2, 1), "{stdout}");
            assert!((1..=OVERHEAD).contains(&client_server), "the file does not pass through V2: {stdout}");
            let heads = 2 * bytes.min(HEAD_BYTES);
            assert!(about(heads).contains(&server_store), "it looks at the beginning, and at the copy's: {stdout}");
            assert!(about(bytes).contains(&client_store), "the store has it from the client: {stdout}");
        }
    }

    let files = 3 * PHOTOGRAPH_BYTES + 5 * LARGE_BYTES;
    assert_eq!((&*read.outcome, &read.figures[..2]), ("8 of 8", &[8, 8][..]), "{stdout}");
    assert!(read.figures[2] <= OVERHEAD, "nothing passes through a server on the way out: {stdout}");
    assert!(about(files).contains(&read.figures[4]), "{stdout}");
}

#[test]
fn what_cannot_be_used_is_named() {
    const NO_STORE: (&str, &str) = ("S3_ENDPOINT", "http://127.0.0.1:1");
    const KEYS: [&str; 3] = ["S3_", "S3_SIGNER_", "S3_READER_"];

    for (name, value, wanted) in [
        ("DATABASE_URL", "nonsense", "DATABASE_URL"),
        ("DATABASE_URL", "postgres://up@127.0.0.1:1/postgres", "the Postgres of DATABASE_URL runs"),
        ("SANDBOX_POSTGRES", "perhaps", "`installed`"),
    ] {
        assert_refused(Demo::new(&["--once"]).on_its_own().env(name, value), wanted);
    }
    let keys = |id: fn(&str) -> String| {
        let demo = Demo::new(&["--once"]).on_its_own().env(NO_STORE.0, NO_STORE.1);
        KEYS.into_iter().fold(demo, |demo, prefix| {
            demo.env(&format!("{prefix}ACCESS_KEY_ID"), &id(prefix)).env(&format!("{prefix}SECRET_ACCESS_KEY"), "x")
        })
    };
    assert_refused(keys(|_| String::new()), "S3_ACCESS_KEY_ID must be set");
    assert_refused(keys(str::to_owned), "the store of S3_ENDPOINT runs");
}

fn assert_refused(demo: Demo, wanted: &str) {
    let output = demo.run();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let last = stderr.lines().last().unwrap();
    assert!(last.starts_with("upload-demo: ") && last.contains(wanted), "{stderr}");
}
