//! The interface's document: made of the table of routes, so that neither can have what the other lacks.

mod endpoint;
mod openapi;
pub mod schemas;

pub use endpoint::{Endpoint, Operation, header};
pub(crate) use openapi::Interface;
