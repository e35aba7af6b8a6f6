//! The page.

use anyhow::Result;

use crate::record::Report;

pub fn page(_report: &Report) -> Result<String> {
    Ok(String::new())
}
