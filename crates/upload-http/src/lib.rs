#![doc = include_str!("../README.md")]

mod boundary;
mod caller;
mod client_address;
mod code;
mod connection;
mod document;
mod error;
mod form;
mod logging;
mod metrics;
mod rate_limits;
mod readiness;
mod request_id;
mod routes;
mod server;
mod settings;
mod shared;
mod shutdown;
mod tokens;
mod views;

pub use caller::Caller;
pub use code::{Code, Retry};
pub use connection::raise_receive_buffer;
pub use document::{Endpoint, Operation, header, schemas};
pub use error::ApiError;
pub use form::{FormMethod, FormParts, IssueForm, PresignedForm};
pub use metrics::Metrics;
pub use routes::NOT_PENDING;
pub use server::{Server, Start, StartError, Stopped, Strategy, run};
pub use settings::{CommonSettings, HttpSettings, LogFormat, SettingsError, parse};
pub use shared::Shared;
pub use shutdown::{ActiveUploads, Shutdown, UploadGuard};
pub use tokens::TokenVerifier;
pub use views::ImageEntity;
