//! The OpenAPI document. It is built from the table of routes, so document and routes always agree.

mod endpoint;
mod openapi;
pub mod schemas;

pub use endpoint::{Endpoint, Operation, header};
pub(crate) use openapi::Interface;
