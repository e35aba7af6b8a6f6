#![doc = include_str!("../README.md")]

mod admission;
mod attempt;
mod client_body;
mod form;
mod form_head;
mod form_input;
mod metrics;
mod settings;
mod shares;
mod stream_route;
mod ticket;
mod ticket_forms;
mod ticket_route;
mod transfer;
mod turns;
mod upload_body;

use std::{sync::Arc, time::Duration};

use actix_web::{HttpRequest, web};
use secrecy::ExposeSecret as _;
use upload_domain::UserId;
use upload_http::{ApiError, Code, CommonSettings, Endpoint, Shared, Start, StartError, Strategy, UploadGuard};

use admission::{Admission, ClientShares, NotAdmitted, Room, Uploader};
use client_body::BodyLimits;
use form::FORM_OVERHEAD_BYTES;
use metrics::Metrics;
pub use settings::StreamingSettings;
use ticket::TicketKey;
use ticket_forms::TicketForms;
use turns::Turn;

/// Upload server V1: receives images and streams them to the store.
#[derive(Debug, Clone, clap::Parser)]
#[command(version)]
pub struct Settings {
    /// The settings of both servers.
    #[command(flatten)]
    pub common: CommonSettings,
    /// The settings of this server only.
    #[command(flatten)]
    pub streaming: StreamingSettings,
}

/// The data that V1's handlers need besides [`Shared`]; one value for all workers.
struct V1 {
    admission: Admission,
    ticket_key: TicketKey,
    client_rate_window: Duration,
    storage_timeout: Duration,
    metrics: Metrics,
}

/// An upload that has begun, until it ends.
struct Upload {
    uploader: Uploader,
    /// For a file that is held in memory.
    room: Option<Room>,
    _shares: ClientShares,
    _upload: UploadGuard,
}

/// What makes a server V1: forms with tickets, and the two routes that take bytes.
pub async fn strategy(settings: &Settings, start: &mut Start<'_>) -> Result<Strategy, StartError> {
    let own = &settings.streaming;
    own.check(settings.common.http.max_image_bytes)?;
    let ticket_key = || TicketKey::new(own.ticket_secret.expose_secret().as_bytes());
    let forms = TicketForms::new(ticket_key(), start.public_api_url, settings.common.http.limits());
    let v1 = web::Data::new(V1 {
        admission: Admission::new(own.admission_limits()),
        ticket_key: ticket_key(),
        client_rate_window: Duration::from_secs(own.client_rate_window_seconds),
        storage_timeout: Duration::from_secs(own.storage_stall_seconds),
        metrics: Metrics::register(start.registry),
    });
    // A pooled connection dies with the runtime that opened it, so each worker has its own connections.
    Ok(Strategy::new("streaming", Arc::new(forms), endpoints(), move |config, storage| {
        config.app_data(web::Data::new(storage.with_own_connections())).app_data(v1.clone());
    }))
}

/// The routes that take bytes.
fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::post("/uploads", |route| route.to(ticket_route::ticket_upload), ticket_route::operation()),
        Endpoint::post("/user/images/upload", |route| route.to(stream_route::stream_upload), stream_route::operation()),
    ]
}

impl V1 {
    /// Waits for the turn of an upload of `user`. If its file must be buffered, it waits for memory first, so that no upload with a turn
    /// waits for memory.
    async fn enter(
        &self,
        shared: &Shared,
        request: &HttpRequest,
        user: UserId,
        held_bytes: Option<u64>,
    ) -> Result<(Upload, Turn), ApiError> {
        let uploader = Uploader { user, address: shared.client_address(request) };
        let shares = self.admission.share(uploader).map_err(not_admitted)?;
        let _waiting = self.metrics.waiting();
        let room = match held_bytes {
            Some(bytes) => Some(self.admission.buffer(uploader, bytes).await.map_err(not_admitted)?),
            None => None,
        };
        let turn = self.admission.enter().await.map_err(not_admitted)?;
        Ok((Upload { uploader, room, _shares: shares, _upload: shared.uploads.begin() }, turn))
    }

    fn body_limits(&self, shared: &Shared) -> BodyLimits {
        BodyLimits {
            max_bytes: shared.limits.max_image_bytes + FORM_OVERHEAD_BYTES,
            rate_window: self.client_rate_window,
            max_time: shared.timing.max_body_time,
        }
    }

    /// How long an attempt holds its row: the longest body, the store's last stall and its answer (or the PUT of a buffered
    /// file), and then the commit.
    fn attempt_time(&self, shared: &Shared) -> Duration {
        const PUT_AND_COMMIT: Duration = Duration::from_secs(45);
        shared.timing.max_body_time + 2 * self.storage_timeout + PUT_AND_COMMIT
    }
}

fn not_admitted(cause: NotAdmitted) -> ApiError {
    let error = match cause {
        NotAdmitted::Overloaded => ApiError::overloaded(),
        NotAdmitted::TooMany => ApiError::new(
            Code::TooManyUploads,
            "You have too many uploads open at the same time; finish some of them first.",
        ),
    };
    error.cause(cause)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::Settings;

    #[test]
    fn the_example_environment_names_every_variable() {
        upload_contract::env_example::assert_complete(&Settings::command());
    }

    #[test]
    fn compose_sets_what_this_server_needs_and_nothing_else() {
        upload_contract::compose::assert_fits(&Settings::command(), |matches| {
            let settings = Settings::from_arg_matches(matches).map_err(|error| error.to_string())?;
            settings.common.check().map_err(|error| error.to_string())?;
            let max_image_bytes = settings.common.http.max_image_bytes;
            settings.streaming.check(max_image_bytes).map_err(|error| error.to_string())
        });
    }
}
