#![doc = include_str!("../README.md")]

mod background;
mod boundary;
mod caller;
mod clocks;
mod code;
mod error;
mod form;
mod health;
mod link;
mod link_post;
mod logging;
mod metrics;
mod prepare;
mod probe;
mod request_id;
mod routes;
mod server;
mod settings;
mod shared;
mod shutdown;
mod start_up;
mod views;

pub use background::Background;
pub use caller::{Caller, TokenVerifier};
pub use code::{Code, Retry};
pub use error::ApiError;
pub use form::{FormMethod, FormParts, IssueForm, PresignedForm};
pub use link::refused_claim;
pub use metrics::Metrics;
pub use prepare::{discard, release};
pub use server::{Server, Start, StartError, Stopped, Strategy, run};
pub use settings::{CommonSettings, HttpSettings, JwtAlgorithm, LogFormat, SettingsError, parse};
pub use shared::Shared;
pub use shutdown::{ActiveUploads, Shutdown, UploadGuard};
pub use views::ImageEntity;
