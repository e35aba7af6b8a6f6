//! The data that every handler uses. There are no globals, so two servers can run in one process.

use std::{net::IpAddr, sync::Arc};

use actix_web::HttpRequest;
use chrono::{DateTime, Utc};
use ipnet::IpNet;
use upload_domain::{ImageId, ImageLimits, Timing};
use upload_link::{Background, Links};
use upload_persistence::{
    Database,
    images::{self, Image, NewImage},
    quotas::Quota,
};
use upload_storage::Storage;
use url::Url;

use crate::{
    ActiveUploads, ApiError, IssueForm, Metrics, Shutdown, TokenVerifier, client_address::client_address,
    rate_limits::RateLimits, readiness::Health,
};

/// A server's parts, as `web::Data`.
#[derive(Clone)]
pub struct Shared {
    /// Postgres; its connections live on the main runtime.
    pub database: Database,
    /// The store, for use on the main runtime alone: a client's pooled connections die with the runtime that opened them.
    /// (Signing needs no connection.)
    pub storage: Storage,
    /// The limits on a file.
    pub limits: ImageLimits,
    /// What one user may create.
    pub quota: Quota,
    /// How long things may take.
    pub timing: Timing,
    /// Where work runs that must finish.
    pub background: Background,
    /// The link protocol, and the hold on an image.
    pub links: Links,
    /// Signs forms.
    pub forms: Arc<dyn IssueForm>,
    /// Counters and times.
    pub metrics: Metrics,
    /// Where clients reach this server; without a slash at the end.
    pub public_api_url: Arc<Url>,
    /// The strategy's name, as `/limits` shows it.
    pub strategy: &'static str,
    /// Verifies bearer tokens.
    pub tokens: Arc<TokenVerifier>,
    /// Whether the server is stopping.
    pub shutdown: Shutdown,
    /// The uploads that this server carries.
    pub uploads: ActiveUploads,
    /// The state of database and store.
    pub(crate) health: Arc<Health>,
    pub(crate) rate_limits: Arc<RateLimits>,
    pub(crate) trusted_proxies: Arc<[IpNet]>,
}

impl Shared {
    /// The time by the database's clock, which sets the dates of forms. It is computed from a comparison every few minutes.
    pub fn database_now(&self) -> DateTime<Utc> {
        self.health.database_now()
    }

    /// Creates a pending image, if its owner may create it and has room for it.
    pub async fn create_image(&self, new: &NewImage) -> Result<Image, ApiError> {
        let mut connection = self.database.connection().await?;
        Ok(images::insert_pending(&mut connection, new, &self.quota).await??)
    }

    /// The address of the request's client. `TRUSTED_PROXIES` says whose `X-Forwarded-For` counts.
    pub fn client_address(&self, request: &HttpRequest) -> Option<IpAddr> {
        let peer = request.peer_addr()?.ip();
        Some(client_address(peer, request.headers(), &self.trusted_proxies))
    }

    /// Where anyone may read an image, while it is linked.
    pub fn image_url(&self, image: ImageId) -> String {
        format!("{}/images/{image}", self.public_api_url.as_str().trim_end_matches('/'))
    }
}
