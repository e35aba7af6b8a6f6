//! `upload-bench compare` as a process, on the embedded store: what it keeps, how it ends, and that it leaves nothing behind.
//!
//! A script that prints an address stands in for V1, so that servers hang and die on purpose.

use std::{
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::Command,
    time::timeout,
};
use upload_bench::{
    record::{Case, Ending, Report, Store, Target},
    report,
};
use upload_domain::ImageLimits;
use upload_sandbox::samples::SMALLEST_JPEG;

const PATIENCE: Duration = Duration::from_secs(120);
/// What `Stage` looks for in the folder of `--binaries`.
const SERVERS: [&str; 2] = ["upload-v1-streaming", "upload-v2-presigned"];

/// A folder that is also the temporary folder of the comparison, so that a test sees what is left behind.
struct Place {
    folder: TempDir,
}

struct Ended {
    status: ExitStatus,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        let folder = TempDir::with_prefix("upload-bench-test-").unwrap();
        // Postgres may run as another user, which needs access.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(folder.path().join("tmp")).unwrap();
        fs::set_permissions(folder.path().join("tmp"), Permissions::from_mode(0o1777)).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn workload(&self, changes: &Value) -> PathBuf {
        let mut workload = json!({
            "imageBytes": 20_000, "targets": ["direct"], "bursts": [{ "images": 3, "rounds": 2 }], "sinkBursts": [],
            "warmUpImages": 0, "retry": false, "giveUpSeconds": 1
        });
        workload.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let file = self.path("workload.json");
        fs::write(&file, workload.to_string()).unwrap();
        file
    }

    /// Compares without MinIO and Go on PATH, so on the embedded store.
    fn compare(&self, workload: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_upload-bench"));
        command.arg("compare").arg("--workload").arg(workload).arg("--out").arg(self.path("report"));
        command.env_remove("DATABASE_URL").env_remove("S3_ENDPOINT").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("TMPDIR", self.path("tmp")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    async fn end(&self, mut command: Command) -> Ended {
        let output = timeout(PATIENCE, command.output()).await.expect("a comparison must end").unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ended { status: output.status, stderr }
    }

    fn report(&self) -> Report {
        report::read(&self.path("report/report.json")).unwrap()
    }

    fn left_behind(&self) -> Vec<PathBuf> {
        fs::read_dir(self.path("tmp")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// A folder with scripts in place of the servers.
    fn servers(&self, script: &str) -> PathBuf {
        let folder = self.path("binaries");
        fs::create_dir(&folder).unwrap();
        for name in SERVERS {
            fs::write(folder.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(folder.join(name), Permissions::from_mode(0o755)).unwrap();
        }
        folder
    }
}

#[tokio::test]
async fn a_comparison_keeps_every_round_in_its_report() {
    let place = Place::new();
    let workload = place.workload(&json!({ "sinkBursts": [{ "images": 2, "rounds": 1 }] }));
    let ended = place.end(place.compare(&workload)).await;
    assert!(ended.status.success(), "{}", ended.stderr);
    let report = place.report();
    let rounds: Vec<_> = report.runs.iter().map(|run| (run.target, run.store, run.images, run.round)).collect();
    let direct = Target::Direct;
    assert_eq!(rounds, [(direct, Store::Embedded, 3, 1), (direct, Store::Embedded, 3, 2), (direct, Store::Sink, 2, 1)]);
    for run in &report.runs {
        assert_eq!((&run.ending, run.load.successes), (&Ending::Finished, u64::from(run.images)));
        assert_eq!(run.verified.as_ref().unwrap().objects, u64::from(run.images));
        assert!(run.load.bytes_to_store > 20_000 * u64::from(run.images));
        assert_eq!(run.load.requests, u64::from(run.images));
    }
    assert!(report.complete);
    assert!(place.path("report/report.html").is_file());
    assert_eq!(place.left_behind(), [] as [PathBuf; 0]);
}

#[tokio::test]
async fn slow_mixed_and_crossover_rounds_are_kept_with_their_lines() {
    const RATE: u64 = 40_000;
    let place = Place::new();
    let workload = place.workload(&json!({
        "bursts": [],
        "slow": [{ "images": 3, "rounds": 1, "bytesPerSecond": RATE }],
        "mixed": [{ "images": 2, "slowImages": 3, "rounds": 1, "bytesPerSecond": RATE, "targets": ["direct"] }],
        "crossover": {
            "sizes": [{ "imageBytes": 5000, "images": 2 }, { "imageBytes": 20_000, "images": 1 }],
            "rttMs": [0, 60], "bytesPerSecond": [null], "rounds": 1
        }
    }));
    let ended = place.end(place.compare(&workload)).await;
    assert!(ended.status.success(), "{}", ended.stderr);
    let report = place.report();
    let cases: Vec<_> =
        report.runs.iter().map(|run| (run.case, run.images, run.image_bytes, run.line.rtt_ms)).collect();
    let cells = [(2, 5000, 0), (1, 20_000, 0), (2, 5000, 60), (1, 20_000, 60)];
    let cells = cells.map(|(images, bytes, rtt_ms)| (Case::Crossover, images, bytes, rtt_ms));
    assert_eq!(cases[..2], [(Case::Slow, 3, 20_000, 0), (Case::Mixed, 2, 20_000, 0)]);
    assert_eq!(cases[2..], cells);
    for run in &report.runs {
        assert_eq!((&run.ending, run.load.successes), (&Ending::Finished, u64::from(run.images)));
        // One for connecting, and one for the request.
        assert!(run.load.makespan_ms >= f64::from(2 * run.line.rtt_ms), "{run:?}");
    }
    let (slow, beside) = (&report.runs[0], report.runs[1].beside.as_ref().unwrap());
    assert_eq!((beside.slow_images, beside.slow.successes, beside.alone.successes), (3, 3, 2));
    // 20,000 bytes take half a second, of which the first twentieth may be sent at once.
    assert!(slow.load.makespan_ms >= 400.0 && beside.slow.makespan_ms >= 400.0, "{} {beside:?}", slow.load.makespan_ms);
    assert!(beside.alone.makespan_ms < beside.slow.makespan_ms);
    // Two clients alone, three slow ones, and two beside them.
    assert_eq!(report.runs[1].verified.as_ref().unwrap().objects, 7);
    assert!(ended.stderr.contains("done=6/6 case=crossover"), "{}", ended.stderr);

    let mut only = place.compare(&workload);
    only.args(["--only", "slow"]);
    assert!(place.end(only).await.status.success());
    assert_eq!(place.report().runs.iter().map(|run| run.case).collect::<Vec<_>>(), [Case::Slow]);
    let mut none = place.compare(&workload);
    none.args(["--only", "burst"]);
    assert!(place.end(none).await.stderr.contains("the plan has no such case"));
}

#[tokio::test]
async fn a_server_that_stops_answering_is_given_up_and_marked() {
    let place = Place::new();
    // The kernel accepts connections, and nothing reads them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let servers = place.servers(&format!("echo listening on http://{address}; exec sleep 600"));
    let workload = place.workload(&json!({ "targets": ["v1", "direct"] }));
    let mut command = place.compare(&workload);
    command.arg("--binaries").arg(servers);
    let ended = place.end(command).await;
    assert!(ended.status.success(), "{}", ended.stderr);
    let report = place.report();
    let v1: Vec<_> = report.runs.iter().filter(|run| run.target == Target::V1).collect();
    assert_eq!(v1.len(), 2);
    for run in v1 {
        assert!(matches!(run.ending, Ending::Hung { after_ms } if after_ms >= 1000), "{:?}", run.ending);
        assert_eq!(run.load.failures.get("given up"), Some(&3));
    }
    let others = report.runs.iter().filter(|run| run.target == Target::Direct);
    assert!(others.clone().count() == 2 && others.into_iter().all(|run| run.ending == Ending::Finished));
}

#[tokio::test]
async fn a_server_that_dies_while_its_connections_stay_open_is_marked_with_its_status() {
    let place = Place::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    // Another process has the connections, so they are not reset when this one ends. It ends once a client has connected.
    let gate = place.path("gate");
    let script =
        format!("echo listening on http://{address}; while [ ! -e {} ]; do sleep 0.05; done; exit 7", gate.display());
    let servers = place.servers(&script);
    let workload =
        place.workload(&json!({ "targets": ["v1"], "bursts": [{ "images": 1, "rounds": 1 }], "giveUpSeconds": 60 }));
    let mut command = place.compare(&workload);
    command.arg("--binaries").arg(servers);
    let accepted = tokio::task::spawn_blocking(move || silent.accept().map(|(stream, _)| (stream, silent)));
    let opening = async {
        let connection = accepted.await.unwrap().unwrap();
        fs::write(&gate, "").unwrap();
        connection
    };
    let (ended, _connection) = tokio::join!(place.end(command), opening);
    assert!(ended.status.success(), "{}", ended.stderr);
    let report = place.report();
    assert_eq!(report.runs[0].ending, Ending::Died { status: "exit status: 7".to_owned() });
}

#[tokio::test]
async fn a_server_that_dies_is_marked_with_its_status_and_gets_no_third_round() {
    // Perl is on every Debian. Its end resets all connections before its exit status is known.
    let script = "exec perl -MIO::Socket::INET -e '$| = 1; \
        $listener = IO::Socket::INET->new(Listen => 5, LocalAddr => \"127.0.0.1\") or die; \
        print \"listening on http://127.0.0.1:\" . $listener->sockport . \"\\n\"; \
        $client = $listener->accept; sysread $client, $byte, 1; exit 7'";
    let place = Place::new();
    let servers = place.servers(script);
    let workload =
        place.workload(&json!({ "targets": ["v1"], "bursts": [{ "images": 3, "rounds": 3 }], "giveUpSeconds": 60 }));
    let mut command = place.compare(&workload);
    command.arg("--binaries").arg(servers);
    let ended = place.end(command).await;
    assert!(ended.status.success(), "{}", ended.stderr);
    let report = place.report();
    let endings: Vec<_> = report.runs.iter().map(|run| run.ending.clone()).collect();
    assert_eq!(endings, [(); 2].map(|()| Ending::Died { status: "exit status: 7".to_owned() }));
}

#[tokio::test]
async fn ctrl_c_keeps_what_was_measured_and_leaves_nothing_running() {
    let place = Place::new();
    let workload = place.workload(&json!({ "bursts": [{ "images": 2, "rounds": 100_000 }] }));
    let mut child = place.compare(&workload).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let rounds = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("round=2 target=direct") {
                return;
            }
        }
        panic!("the comparison ended before its second round");
    };
    timeout(PATIENCE, rounds).await.unwrap();
    let id = i32::try_from(child.id().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGTERM).unwrap();
    let rest = async {
        let mut text = String::new();
        lines.into_inner().read_to_string(&mut text).await.unwrap();
        text
    };
    let (status, rest) = timeout(PATIENCE, async { tokio::join!(child.wait(), rest) }).await.unwrap();
    assert_eq!(status.unwrap().code(), Some(1), "{rest}");
    let report = place.report();
    assert!(!report.complete && report.runs.len() >= 2);
    assert!(report.runs.iter().all(|run| run.ending == Ending::Finished));
    assert_eq!(place.left_behind(), [] as [PathBuf; 0]);
}

#[tokio::test]
async fn a_wrong_workload_is_refused_in_one_sentence_before_anything_starts() {
    let largest = ImageLimits::default().max_image_bytes;
    let too_small = format!("`imageBytes` must be from {SMALLEST_JPEG} to {largest}");
    for (changes, expected) in [
        (json!({ "targets": [] }), "`targets` is empty"),
        (json!({ "targets": ["v3"] }), "v3"),
        (json!({ "targets": ["v1", "v1"] }), "names a target twice"),
        (json!({ "bursts": [] }), "give at least one burst"),
        (json!({ "bursts": [{ "images": 0, "rounds": 1 }] }), "at least one image"),
        (json!({ "imageBytes": 10 }), &too_small),
        (json!({ "giveUpSeconds": 0 }), "`giveUpSeconds`"),
        (json!({ "slow": [{ "images": 1, "rounds": 1, "bytesPerSecond": 0 }] }), "`bytesPerSecond`"),
        (json!({ "slow": [{ "images": 1, "rounds": 1, "targets": ["v1", "v1"] }] }), "names a target twice"),
        (json!({ "mixed": [{ "images": 1, "slowImages": 0, "rounds": 1 }] }), "`slowImages`"),
        (json!({ "colour": "red" }), "colour"),
    ] {
        let place = Place::new();
        let workload = place.workload(&changes);
        let ended = place.end(place.compare(&workload)).await;
        assert_eq!(ended.status.code(), Some(1), "{changes}");
        assert!(ended.stderr.contains(expected) && ended.stderr.contains("workload.json"), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
    let place = Place::new();
    let ended = place.end(place.compare(Path::new("/nowhere/workload.json"))).await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("cannot read the workload /nowhere/workload.json"), "{}", ended.stderr);
}

#[tokio::test]
async fn more_images_than_files_may_be_open_are_refused_with_the_remedy() {
    let place = Place::new();
    let workload = place.workload(&json!({ "bursts": [{ "images": 5000, "rounds": 1 }] }));
    let inner = place.compare(&workload);
    let inner = inner.as_std();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "ulimit -n 1000 && exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = place.end(command).await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("ulimit -n"), "{}", ended.stderr);
}

#[tokio::test]
async fn more_than_there_is_room_for_is_refused_with_the_remedy() {
    let place = Place::new();
    // 84 TB, three times.
    let bursts = json!([{ "images": 4_000_000, "rounds": 1 }]);
    let workload = place.workload(&json!({ "imageBytes": ImageLimits::default().max_image_bytes, "bursts": bursts }));
    let ended = place.end(place.compare(&workload)).await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("bytes free") && ended.stderr.contains("TMPDIR"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_is_named() {
    let place = Place::new();
    let workload = place.workload(&json!({}));
    let mut command = place.compare(&workload);
    command.env("S3_ENDPOINT", "http://127.0.0.1:1");
    for prefix in ["S3_", "S3_SIGNER_", "S3_READER_"] {
        command.env(format!("{prefix}ACCESS_KEY_ID"), prefix).env(format!("{prefix}SECRET_ACCESS_KEY"), "secret");
    }
    let ended = place.end(command).await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("bucket") && ended.stderr.contains("S3_ENDPOINT"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named_before_anything_is_measured() {
    let place = Place::new();
    let workload = place.workload(&json!({}));
    fs::write(place.path("report"), "a file where the folder should be").unwrap();
    let ended = place.end(place.compare(&workload)).await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("cannot create the folder"), "{}", ended.stderr);
}
