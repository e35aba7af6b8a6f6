//! nginx as a relay: `proxy_pass` to the store with request buffering off, the least work that a general relay can do. With request
//! buffering on it stands in front of V1, and keeps each upload on its disk until the upload is complete.
//!
//! It has one worker for its one CPU. The other settings match our own servers: a long backlog for bursts, long timeouts for a slow
//! store, no log of requests, and connections to the store that are kept.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use upload_sandbox::{Stand, nginx::WORKER_STARTED, process::Program};
use url::Url;

use crate::limits::{Limited, Limiter};

/// The larger of the two buffers that are compared.
pub(super) const LARGE_BUFFER: &str = "client_body_buffer_size 128k;";

const CONFIGURATION: &str = "\
daemon off;
worker_processes 1;
worker_rlimit_nofile ${FILES};
pid nginx.pid;
error_log stderr notice;
events {
    worker_connections ${CONNECTIONS};
}
http {
    access_log off;
    client_body_temp_path bodies;
    proxy_temp_path answers;
    fastcgi_temp_path unused;
    uwsgi_temp_path unused;
    scgi_temp_path unused;
    client_max_body_size 0;
    client_body_timeout 180s;
    ${BUFFER}
    upstream behind {
        server ${BEHIND};
        keepalive 64;
    }
    server {
        listen 127.0.0.1:${PORT} backlog=4096;
        location / {
            proxy_pass http://behind;
            proxy_http_version 1.1;
            proxy_request_buffering ${BUFFERING};
            proxy_read_timeout 180s;
            proxy_send_timeout 180s;
            proxy_set_header Connection \"\";
            # The client signed this header.
            proxy_set_header Host $http_host;
        }
    }
}
";
/// Its limits of open files and of connections. Each upload takes two.
const FILES: u64 = 16_384;
const CONNECTIONS: u64 = 8192;

/// How an nginx passes requests on.
pub(super) struct Proxy<'a> {
    /// Where it listens.
    pub(super) port: u16,
    /// What is behind it.
    pub(super) behind: &'a Url,
    /// A directive about its buffer, or nothing.
    pub(super) buffer: &'a str,
    /// Whether it reads a whole request first.
    pub(super) buffers_requests: bool,
}

pub(super) async fn start(
    limiter: &Limiter,
    binary: &Path,
    stand: &Stand,
    proxy: &Proxy<'_>,
) -> Result<(Limited, TempDir)> {
    let Proxy { port, behind, buffer, buffers_requests } = *proxy;
    let host = behind.host_str().context("the URL behind nginx has no host")?;
    let port_behind = behind.port_or_known_default().context("the URL behind nginx has no port")?;
    let variables = [
        ("FILES", FILES.to_string()),
        ("CONNECTIONS", CONNECTIONS.to_string()),
        ("BUFFERING", if buffers_requests { "on" } else { "off" }.to_owned()),
        ("BUFFER", buffer.to_owned()),
        ("BEHIND", format!("{host}:{port_behind}")),
        ("PORT", port.to_string()),
    ];
    let configuration = variables
        .into_iter()
        .fold(CONFIGURATION.to_owned(), |text, (name, value)| text.replace(&format!("${{{name}}}"), &value));
    let folder = TempDir::with_prefix("upload-bench-nginx-").context("cannot create a folder for nginx")?;
    // If nginx starts as root, it continues as `nobody`, which needs access.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    fs::write(folder.path().join("nginx.conf"), configuration)?;
    let options = ["-e", "stderr", "-c", "nginx.conf", "-p"];
    let program = options.into_iter().fold(Program::bare(binary, stand.runtime()), Program::arg).arg(folder.path());
    let process = limiter.serve_at(program, format!("http://127.0.0.1:{port}"), WORKER_STARTED).await?;
    Ok((process, folder))
}
