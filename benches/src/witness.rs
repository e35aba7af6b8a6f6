//! An independent witness: `oha` (<https://github.com/hatoo/oha>) sends the same bursts to the same servers, so that nobody has to
//! believe the generator of this package.
//!
//! It knows one request for each image and nothing of links, so only targets of one request are compared; and one user, who sends all
//! images. All that is not the sending (limits, warm-up, measuring, verifying) is the same for both.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use tempfile::NamedTempFile;
use tokio::process::Command;

use crate::{
    client::{multipart, multipart_content_type},
    limits::program,
    load::{Caller, Flow, Outcome},
    payload::Payload,
    record::Load,
};

/// The program.
#[derive(Debug, Clone)]
pub struct Oha(PathBuf);

/// What it prints with `--output-format json`, as far as it is read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Printed {
    summary: Summary,
    status_code_distribution: BTreeMap<String, u64>,
    error_distribution: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
struct Summary {
    /// In seconds.
    total: f64,
}

impl Oha {
    /// At this path, or where a shell would find it.
    ///
    /// # Errors
    /// Where it is not, with the way to have it.
    pub fn find(given: Option<&Path>) -> Result<Self> {
        match given.map(Path::to_owned).or_else(|| program("oha")) {
            Some(binary) => Ok(Self(binary)),
            None => bail!("no `oha` is on PATH: `cargo install oha --locked` builds one, or --oha says where it is"),
        }
    }

    /// Sends so many images at once, each on a connection of its own.
    ///
    /// # Errors
    /// When it cannot be run, or the flow is not of one request.
    pub(crate) async fn burst(
        &self,
        flow: &Flow,
        callers: &[Caller],
        payload: &Payload,
        images: u32,
        request_timeout: Duration,
    ) -> Result<Outcome> {
        let Flow::Multipart { url, fields, file_field } = flow else {
            bail!("oha sends one request for each image, and this target needs more");
        };
        let mut body = NamedTempFile::new().context("the body for oha cannot be written")?;
        for piece in multipart(fields, file_field, payload).into_pieces() {
            body.write_all(&piece).context("the body for oha cannot be written")?;
        }
        let count = images.to_string();
        let mut command = Command::new(&self.0);
        command.args(["-n", &count, "-c", &count, "--disable-keepalive", "--no-tui", "--output-format", "json"]);
        command.args(["-t", &format!("{}s", request_timeout.as_secs())]);
        command.args(["-m", "POST", "-T", &multipart_content_type(), "-D"]).arg(body.path());
        if let Some(caller) = callers.first() {
            command.args(["-H", &format!("Authorization: Bearer {}", caller.token)]);
        }
        command.arg(url.as_str()).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.with_context(|| format!("{} does not start", self.0.display()))?;
        ensure!(output.status.success(), "oha failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        let printed: Printed =
            serde_json::from_slice(&output.stdout).context("oha printed something else than before")?;
        Ok(printed.outcome())
    }
}

impl Printed {
    fn outcome(self) -> Outcome {
        let (mut successes, mut failures) = (0, self.error_distribution);
        let unanswered = failures.values().sum();
        for (status, count) in self.status_code_distribution {
            if status.starts_with('2') { successes += count } else { *failures.entry(status).or_default() += count }
        }
        let requests = successes + failures.values().sum::<u64>();
        let load = Load { successes, failures, requests, makespan_ms: self.summary.total * 1e3, ..Load::default() };
        Outcome { load, images: Vec::new(), unnamed: successes, unanswered, hung: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_oha_prints_is_read() -> Result<()> {
        let text = r#"{"summary": {"successRate": 0.9, "total": 1.25, "slowest": 1.2}, "latencyPercentiles": {"p50": 0.7},
            "statusCodeDistribution": {"201": 90, "503": 8}, "errorDistribution": {"connection closed": 2}}"#;
        let outcome = serde_json::from_str::<Printed>(text)?.outcome();
        assert_eq!((outcome.load.successes, outcome.unnamed, outcome.unanswered), (90, 90, 2));
        assert_eq!(outcome.load.failures, BTreeMap::from([("503".to_owned(), 8), ("connection closed".to_owned(), 2)]));
        assert_eq!((outcome.load.requests, outcome.load.makespan_ms), (100, 1250.0));
        Ok(())
    }
}
