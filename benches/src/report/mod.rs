//! What a comparison found, for people: `report.json` with everything that was measured, `report.html` to read,
//! `machine.txt`, and the text for a terminal.
//!
//! All of it is made from a [`Report`] alone, so that it can be made anew from `report.json`, also after a change here.
//! Files are replaced whole or not at all: what an earlier round left is never half overwritten.

pub mod figures;
pub mod grid;
mod html;
mod plots;
pub mod spread;
mod table;
pub mod targets;
pub mod words;

use std::{
    fs::{self, File, Permissions},
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::record::{Report, VERSION};

/// Writes `report.json`, `report.html` and `machine.txt` into the folder, which is made where it is missing.
///
/// # Errors
///
/// Fails with the name of the file that could not be written, for instance because the disk is full; files that were
/// there before stay as they were.
pub fn write(report: &Report, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    let mut json = serde_json::to_string_pretty(report).context("the report cannot be written as JSON")?;
    json.push('\n');
    replace(&folder.join("report.json"), &json)?;
    replace(&folder.join("machine.txt"), &words::machine(report))?;
    replace(&folder.join("report.html"), &html::page(report)?)
}

/// Reads a `report.json`.
///
/// # Errors
///
/// Fails with the file's name when it cannot be read, is of another version than [`VERSION`], or does not hold a
/// report.
pub fn read(path: &Path) -> Result<Report> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let mut text = String::new();
    File::open(path)
        .and_then(|mut file| file.read_to_string(&mut text))
        .with_context(|| format!("{} cannot be read", path.display()))?;
    let head: Head = serde_json::from_str(&text).with_context(|| format!("{} is no report", path.display()))?;
    ensure!(
        head.version == VERSION,
        "{} is a report of version {}; this program reads version {VERSION}",
        path.display(),
        head.version
    );
    let report = serde_json::from_str(&text).with_context(|| format!("{} is a broken report", path.display()))?;
    figures::of(&report).with_context(|| format!("{} is a broken report", path.display()))?;
    Ok(report)
}

/// The words and the tables, in lines of at most 120 characters.
pub fn terminal(report: &Report) -> String {
    match figures::of(report) {
        Ok(figures) => {
            let lead = words::lead(report, &figures).into_iter().map(|line| table::wrapped(&line));
            let tables = grid::all(report, &figures).into_iter().map(|grid| format!("\n{}", table::draw(&grid)));
            lead.chain(tables).chain([format!("\n{}", table::wrapped(targets::PUBLISHED_SOURCE))]).collect()
        }
        // A report that was read has been looked through, so that this is one that was put together wrongly.
        Err(error) => format!("The report cannot be shown: {error:#}.\n"),
    }
}

/// Puts the text in the file's place in one step.
fn replace(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let failed = || format!("{} cannot be written", path.display());
    let mut new = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder)
        .with_context(failed)?;
    fill(new.as_file_mut(), text).with_context(failed)?;
    new.persist(path).with_context(failed)?;
    Ok(())
}

/// Writes all of it and waits for the disk, which may be full only then.
fn fill(file: &mut File, text: &str) -> std::io::Result<()> {
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_an_error_that_says_so() -> Result<()> {
        let mut full = File::options().write(true).open("/dev/full")?;
        let error = fill(&mut full, "a report").err().context("a full disk took a report")?;
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        Ok(())
    }
}
