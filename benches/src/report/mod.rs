//! A comparison's report: `report.json` with every measurement, `report.html` to read, `machine.txt`, and text for the terminal.
//!
//! Everything is computed from a [`Report`] alone, so you can render `report.json` again after a change here. Each file is replaced
//! as a whole or not at all.

mod crossover;
pub mod figures;
mod html;
mod plots;
pub mod spread;
pub mod summary;
pub mod tables;
pub mod targets;
mod terminal;

use std::{
    fs::{self, File, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::record::{Report, VERSION};

/// Writes `report.json`, and what [`render`] makes of it, into the folder, which is created where it is missing.
///
/// # Errors
/// Names the file that cannot be written, for instance because the disk is full. Files that were there before stay as they were.
pub fn write(report: &Report, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let mut json = serde_json::to_string_pretty(report).context("cannot write the report as JSON")?;
    json.push('\n');
    replace(&folder.join("report.json"), &json)?;
    render(report, folder)
}

/// Writes `report.html` and `machine.txt` into the folder.
///
/// # Errors
/// Names the file that cannot be written, or the run whose histogram cannot be read.
pub fn render(report: &Report, folder: &Path) -> Result<()> {
    replace(&folder.join("machine.txt"), &summary::machine_facts(report))?;
    replace(&folder.join("report.html"), &html::page(report, &figures::of(report)?))
}

/// Reads a `report.json`.
///
/// # Errors
/// Names the file if it cannot be read, has another version than [`VERSION`], or does not hold a report.
pub fn read(path: &Path) -> Result<Report> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let head: Head = serde_json::from_str(&text).with_context(|| format!("{} is not a report", path.display()))?;
    ensure!(
        head.version == VERSION,
        "{} is a report of version {}; this program reads version {VERSION}",
        path.display(),
        head.version
    );
    serde_json::from_str(&text).with_context(|| format!("{} is not a valid report", path.display()))
}

/// The opening, the tables and the notes, in lines of at most 120 characters.
///
/// # Errors
/// Names the run whose histogram cannot be read.
pub fn terminal(report: &Report) -> Result<String> {
    let figures = figures::of(report)?;
    let wrapped = |line: String| terminal::wrapped(&line);
    let opening = summary::opening(report, &figures).into_iter().map(wrapped);
    let tables = tables::all(report, &figures).into_iter().map(|table| format!("\n{}", terminal::draw(&table)));
    let notes = summary::notes(report).into_iter().chain([targets::PUBLISHED.to_owned()]).map(wrapped);
    Ok(opening.chain(tables).chain(["\n".to_owned()]).chain(notes).collect())
}

/// Replaces the file in one step.
fn replace(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let failed = || format!("cannot write {}", path.display());
    let mut new = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder)
        .with_context(failed)?;
    fill(new.as_file_mut(), text).with_context(failed)?;
    new.persist(path).with_context(failed)?;
    Ok(())
}

/// Writes all of it and waits for the disk, which may report only then that it is full.
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
