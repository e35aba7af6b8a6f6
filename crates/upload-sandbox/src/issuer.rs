//! Hands out a store's keys as temporary credentials, in the two ways of AWS: a container's endpoint (ECS and EKS), and the AssumeRole of
//! STS, which a profile with a `role_arn` uses.
//!
//! The test sets when credentials expire, and whether and how the issuer fails to answer. The issuer does not check who asks.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use crate::{Stand, process::Program, s3::Key};

/// The signer and the reader are roles that a user with permanent credentials assumes.
const PROFILES: &str = "[profile base]\n\
    aws_access_key_id = base\n\
    aws_secret_access_key = base-secret\n\n\
    [profile upload-signer]\n\
    role_arn = arn:aws:iam::123456789012:role/upload-signer\n\
    source_profile = base\n\n\
    [profile upload-reader]\n\
    role_arn = arn:aws:iam::123456789012:role/upload-reader\n\
    source_profile = base\n";

/// An issuer of temporary credentials for one stand's three keys: the roles `server`, `signer` and `reader`.
#[derive(Debug)]
pub struct Issuer {
    address: SocketAddr,
    roles: Arc<Mutex<Roles>>,
    folder: TempDir,
}

#[derive(Debug, Default)]
struct Roles {
    by_name: BTreeMap<String, Role>,
    silent: bool,
    mute: bool,
}

#[derive(Debug)]
struct Role {
    key: Key,
    ends: DateTime<Utc>,
    asked: u64,
}

impl Issuer {
    /// Starts one on the sandbox's runtime. Credentials expire in an hour, unless a test sets another end.
    pub async fn start(stand: &Stand) -> Result<Self> {
        let ends = Utc::now() + TimeDelta::hours(1);
        let role = |(name, key): (&str, Key)| (name.to_owned(), Role { key, ends, asked: 0 });
        let by_name = stand.keys().map(role).into();
        let roles = Arc::new(Mutex::new(Roles { by_name, ..Roles::default() }));

        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let folder = TempDir::new().context("there is no folder for the profiles")?;
        std::fs::write(folder.path().join("config"), PROFILES).context("the profiles cannot be written")?;

        let shared = Arc::clone(&roles);
        let _context = stand.runtime().enter();
        let listener = TcpListener::from_std(listener)?;
        tokio::spawn(async move {
            while let Ok((stream, _peer)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&shared)));
            }
        });
        Ok(Self { address, roles, folder })
    }

    /// A server whose own key comes from the container's endpoint. Its signer's and reader's keys come from roles of profiles.
    pub fn program(&self, binary: impl Into<PathBuf>, stand: &Stand) -> Program {
        let mut program = Program::new(binary, stand)
            .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{}/credentials/server", self.address))
            .env("AWS_ENDPOINT_URL_STS", format!("http://{}", self.address))
            .env("AWS_CONFIG_FILE", self.folder.path().join("config").to_string_lossy())
            .env("S3_SIGNER_PROFILE", "upload-signer")
            .env("S3_READER_PROFILE", "upload-reader");
        for prefix in ["S3_", "S3_SIGNER_", "S3_READER_"] {
            for suffix in ["ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"] {
                program = program.without(&format!("{prefix}{suffix}"));
            }
        }
        program
    }

    /// Sets when the credentials expire that a role gets from now on.
    ///
    /// # Panics
    /// If there is no such role.
    pub fn set_end(&self, role: &str, ends: DateTime<Utc>) {
        let mut roles = lock(&self.roles);
        match roles.by_name.get_mut(role) {
            Some(role) => role.ends = ends,
            None => panic!("there is no role {role}"),
        }
    }

    /// Whether to break every connection from now on.
    pub fn set_silent(&self, silent: bool) {
        lock(&self.roles).silent = silent;
    }

    /// Accepts every request from now on, and never answers.
    pub fn set_mute(&self) {
        lock(&self.roles).mute = true;
    }

    /// How often a client asked for a role's credentials; requests while it was silent do not count.
    pub fn asked(&self, role: &str) -> u64 {
        lock(&self.roles).by_name.get(role).map_or(0, |role| role.asked)
    }
}

impl Roles {
    /// The answer to a container (`GET`) or to AssumeRole (`POST`).
    fn answer(&mut self, method: &Method, path: &str, body: &str) -> Option<String> {
        let asked = match *method {
            Method::GET => path.strip_prefix("/credentials/")?,
            _ => body.split('&').find_map(|pair| pair.strip_prefix("RoleArn="))?.rsplit("upload-").next()?,
        };
        let role = self.by_name.get_mut(asked)?;
        role.asked += 1;
        let Key { id, secret, session_token } = &role.key;
        let token = session_token.as_deref().unwrap_or_default();
        let ends = role.ends.to_rfc3339_opts(SecondsFormat::Secs, true);
        if method == Method::GET {
            let answer = json!({ "AccessKeyId": id, "SecretAccessKey": secret, "Token": token, "Expiration": ends });
            return Some(answer.to_string());
        }
        let arn = format!("arn:aws:sts::123456789012:assumed-role/upload-{asked}/session");
        Some(format!(
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
             <AssumedRoleUser><AssumedRoleId>AROA:session</AssumedRoleId><Arn>{arn}</Arn></AssumedRoleUser>\
             <Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
             <SessionToken>{token}</SessionToken><Expiration>{ends}</Expiration></Credentials>\
             </AssumeRoleResult></AssumeRoleResponse>"
        ))
    }
}

async fn answer(stream: TcpStream, roles: Arc<Mutex<Roles>>) {
    let service = service_fn(|request: Request<Incoming>| {
        let roles = Arc::clone(&roles);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            let (answer, mute) = {
                let mut roles = lock(&roles);
                if roles.silent {
                    return Err(io::Error::other("the issuer is silent"));
                }
                (roles.answer(&parts.method, parts.uri.path(), &String::from_utf8_lossy(&body)), roles.mute)
            };
            if mute {
                std::future::pending::<()>().await;
            }
            let mut response = Response::new(Full::new(Bytes::from(answer.clone().unwrap_or_default())));
            if answer.is_none() {
                *response.status_mut() = StatusCode::NOT_FOUND;
            }
            Ok(response)
        }
    });
    // An error means that either side broke the connection.
    let _broken = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

fn lock(roles: &Mutex<Roles>) -> MutexGuard<'_, Roles> {
    roles.lock().unwrap_or_else(PoisonError::into_inner)
}
