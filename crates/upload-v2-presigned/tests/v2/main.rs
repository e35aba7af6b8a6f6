//! The real binary on its own stand: starting and stopping, settings, the rules for every request, the PUT form, and failures
//! of Postgres or the store. The contract suite tests what both servers promise.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod addressing;
mod boundary;
mod contract;
mod credentials;
mod faults;
mod forms;
mod openapi;
mod races;
mod secrets;
mod settings;
mod start_stop;

use upload_domain::Role;
use upload_sandbox::{Person, Sandbox, Stand, client::Client, process::Server};

/// The server under test.
const BINARY: &str = env!("CARGO_BIN_EXE_upload-v2-presigned");

/// A text that only a request to copy contains.
const COPY: &str = "x-amz-copy-source-if-match";

/// A server on its own stand, with a member and their client.
struct Setup {
    // Dropped in this order: the server must be gone before its database and bucket are.
    server: Server,
    member: Person,
    client: Client,
    stand: Stand,
}

impl Setup {
    async fn start(extra_environment: &[(&str, &str)]) -> Self {
        Self::on(Sandbox::shared().await.stand().await, extra_environment).await
    }

    async fn on(stand: Stand, extra_environment: &[(&str, &str)]) -> Self {
        let server = Server::start(BINARY, &stand, extra_environment).await.unwrap();
        let member = stand.add_person(Role::User).await.unwrap();
        let client = Client::new(&server.url, &member.token).unwrap();
        Self { server, member, client, stand }
    }

    /// Another server on the same stand, and the member's client for it.
    async fn another(&self, extra_environment: &[(&str, &str)]) -> (Server, Client) {
        let server = Server::start(BINARY, &self.stand, extra_environment).await.unwrap();
        let client = self.client.at(&server.url);
        (server, client)
    }

    /// The keys of the bucket under a prefix.
    async fn keys(&self, prefix: &str) -> Vec<String> {
        self.stand.storage.list(prefix).await.unwrap()
    }
}
