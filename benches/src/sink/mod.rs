//! The null sink: an S3 store that costs as little as possible. It checks every signature, counts, and discards.
//!
//! On one machine, the hashing and writing of a real store limits every target; on the sink, the servers show. It is a process of its
//! own (`upload-bench sink`), so its CPU time is measured apart. Of each object it keeps the size, an ETag, the type and the first
//! 256 KiB, which V2 reads at the link. Deliberately absent: hashes of payloads, the conditions of a form's policy, the expiry of
//! signatures, rights of keys, buckets (every name exists), and the rest of each object.

mod answers;
mod form;
mod objects;
mod server;
mod service;
mod signature;
mod traffic;

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Deserialize;
use upload_sandbox::{
    Sandbox,
    client::Client,
    process::{Program, Server},
    s3::S3Connection,
};
use url::Url;

use crate::{record::Traffic, stage::store_variables};

/// Run a store that checks signatures, counts and discards. The keys are in the environment, as for a server.
#[derive(Debug, Args)]
pub struct SinkCommand {}

/// A running sink. Dropping it ends its process.
#[derive(Debug)]
pub struct SinkConnection {
    /// Its base URL.
    pub url: Url,
    /// Its process.
    pub pid: u32,
    client: Client,
    _process: Server,
}

/// The answer to `GET /-/counts`.
#[derive(Debug, Deserialize)]
struct Counts {
    traffic: BTreeMap<String, Traffic>,
    objects: u64,
    bytes: u64,
}

impl SinkCommand {
    /// Serves on a free port of 127.0.0.1 and prints its address.
    ///
    /// # Errors
    /// Where a key is missing in the environment, or there is no free port.
    pub async fn run(&self) -> Result<ExitCode> {
        let store = S3Connection::from_environment()?.context("set S3_ENDPOINT and the keys")?;
        // Two threads on every machine, so that machines can be compared.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let served = runtime.spawn(server::serve(signature::Keys::of(&store.keys))).await;
        runtime.shutdown_background();
        served??;
        Ok(ExitCode::SUCCESS)
    }
}

impl SinkConnection {
    /// Starts a sink with the keys of the sandbox's store; `binary` is this program.
    ///
    /// # Errors
    /// Where it does not start.
    pub async fn start(binary: &Path, sandbox: &Sandbox) -> Result<Self> {
        let program = Program::bare(binary, sandbox.runtime()).arg("sink");
        let variables = store_variables(sandbox.store());
        let program = variables.into_iter().fold(program, |program, (name, value)| program.env(name, value));
        let process = program.serve().await.context("cannot start the null sink")?;
        let client = Client::anonymous(process.url.as_str())?;
        let url = process.url.parse().context("the null sink does not listen at a URL")?;
        Ok(Self { url, pid: process.id(), client, _process: process })
    }

    /// The traffic since the start or the last reset, by the key of a connection's first request: `server`, `signer`, `reader`, or
    /// `other` without a valid signature.
    ///
    /// # Errors
    /// Where the sink does not answer.
    pub async fn counts(&self) -> Result<BTreeMap<String, Traffic>> {
        Ok(self.all().await?.traffic)
    }

    /// How many objects there are, and the sum of their sizes in bytes.
    ///
    /// # Errors
    /// Where the sink does not answer.
    pub async fn objects(&self) -> Result<(u64, u64)> {
        let Counts { objects, bytes, .. } = self.all().await?;
        Ok((objects, bytes))
    }

    /// Forgets all objects and counts.
    ///
    /// # Errors
    /// Where the sink does not answer.
    pub async fn reset(&self) -> Result<()> {
        self.client.post("/-/reset", &serde_json::Value::Null).await?.expect_status(204)?;
        Ok(())
    }

    async fn all(&self) -> Result<Counts> {
        let answer = self.client.get("/-/counts").await?.expect_status(200)?;
        serde_json::from_value(answer.json).context("cannot read the counts of the null sink")
    }
}
