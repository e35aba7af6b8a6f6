#![doc = include_str!("../README.md")]

mod boundary;
mod caller;
mod clocks;
mod code;
mod connection;
mod endpoint;
mod error;
mod form;
mod health;
mod logging;
mod metrics;
mod openapi;
mod probe;
mod request_id;
mod routes;
pub mod schemas;
mod server;
mod settings;
mod shared;
mod shutdown;
mod start_up;
mod views;

pub use caller::{Caller, TokenVerifier};
pub use code::{Code, Retry};
pub use endpoint::{Endpoint, Operation, header};
pub use error::ApiError;
pub use form::{FormMethod, FormParts, IssueForm, PresignedForm};
pub use metrics::Metrics;
pub use routes::NOT_PENDING;
pub use server::{Server, Start, StartError, Stopped, Strategy, run};
pub use settings::{CommonSettings, HttpSettings, JwtAlgorithm, LogFormat, SettingsError, parse};
pub use shared::Shared;
pub use shutdown::{ActiveUploads, Shutdown, UploadGuard};
pub use views::ImageEntity;
