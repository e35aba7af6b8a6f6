//! The uploads: each file through each server, then through one server and linked and read through the other.
//!
//! The photograph becomes the user's profile image, the large file the poster of a competition of the admin's.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use upload_domain::{ImageFormat, ImagePath};
use upload_sandbox::{client::Client, samples};

use crate::{
    machine::{Machine, ServerName, Traffic},
    say,
};

/// A photograph of NASA's; see `photographs/README.md`.
pub(crate) const PHOTOGRAPH: &[u8] = include_bytes!("../photographs/astronaut.jpg");
/// The size of the large file, in bytes.
const LARGE_BYTES: usize = 5_000_000;
/// The seed from which its bytes are made.
const LARGE_SEED: u64 = 3;

/// How a file is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// V1's own: the file and its purpose in one request.
    Stream,
    /// The way of both servers: ask for a form, send it.
    Form(ServerName),
}

/// One file's way there and back.
#[derive(Debug)]
pub(crate) struct Trip {
    pub(crate) file: &'static str,
    pub(crate) file_bytes: usize,
    pub(crate) route: Route,
    pub(crate) linked_at: ServerName,
    /// From the first request until the image was linked.
    pub(crate) traffic: Traffic,
    pub(crate) time: Duration,
    /// Whether the bytes that came back are those that were sent.
    pub(crate) same: bool,
}

/// All trips.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) trips: Vec<Trip>,
    /// Reading all of them back.
    pub(crate) read: Traffic,
    pub(crate) read_time: Duration,
}

struct File {
    name: &'static str,
    bytes: Bytes,
    path: ImagePath,
}

impl Report {
    /// How many files came back different.
    pub(crate) fn different(&self) -> usize {
        self.trips.iter().filter(|trip| !trip.same).count()
    }
}

/// Sends every file every way.
pub(crate) async fn run(machine: &Machine) -> Result<Report> {
    use ServerName::{V1, V2};

    let photograph = File { name: "photograph", bytes: Bytes::from_static(PHOTOGRAPH), path: ImagePath::UserProfile };
    let large = samples::jpeg_of_exactly(LARGE_BYTES, LARGE_SEED);
    let large = File { name: "made JPEG", bytes: large.into(), path: ImagePath::Competition };
    let straight = [(Route::Stream, V1), (Route::Form(V1), V1), (Route::Form(V2), V2)];
    let crossed = [(Route::Form(V1), V2), (Route::Form(V2), V1)];
    let ways = [&photograph, &large]
        .into_iter()
        .flat_map(|file| straight.iter().map(move |way| (file, way)))
        .chain(crossed.iter().map(|way| (&large, way)));

    let mut report = Report { trips: Vec::new(), read: machine.traffic(), read_time: Duration::ZERO };
    report.read = report.read.since(report.read);
    say("uploading, linking, reading back");
    for (file, &(route, linked_at)) in ways {
        say(&format!("  {} through {}, linked and read through {}", file.name, route.server(), linked_at.as_str()));
        let done = travel(machine, file, route, linked_at, &mut report).await;
        done.with_context(|| format!("cannot send the {} through {}", file.name, route.server()))?;
    }
    Ok(report)
}

async fn travel(
    machine: &Machine,
    file: &File,
    route: Route,
    linked_at: ServerName,
    report: &mut Report,
) -> Result<()> {
    // A competition has one poster, so each poster has a competition of its own, made before anything is counted.
    let (caller, competition) = match file.path {
        ImagePath::Competition => {
            let admin = machine.admin()?;
            let created = admin.create_competition("Demo").await?.expect_status(201)?;
            (admin, created.json["competition"]["id"].as_str().map(str::to_owned))
        }
        _ => (machine.user()?, None),
    };
    machine.wait_for_background().await?;

    let (before, begun) = (machine.traffic(), Instant::now());
    let image = upload(machine, &caller, file, route).await.context("the upload failed")?;
    let there = caller.at(machine.url(linked_at));
    let linked = match &competition {
        Some(competition) => there.link_poster(competition, &image).await,
        None => there.link_profile(&image).await,
    };
    linked.and_then(|answer| answer.expect_status(201)).context("the link failed")?;
    let time = begun.elapsed();
    machine.wait_for_background().await?;
    let linked = machine.traffic();

    let begun = Instant::now();
    let back = there.download(&image).await?.expect_status(200).context("cannot read the image back")?;
    report.read_time += begun.elapsed();
    report.read = report.read.plus(machine.traffic().since(linked));
    report.trips.push(Trip {
        file: file.name,
        file_bytes: file.bytes.len(),
        route,
        linked_at,
        traffic: linked.since(before),
        time,
        same: back.body == file.bytes,
    });
    Ok(())
}

/// Uploads and returns the image's id.
async fn upload(machine: &Machine, caller: &Client, file: &File, route: Route) -> Result<String> {
    match route {
        Route::Stream => {
            let caller = caller.at(machine.url(ServerName::V1));
            let answer = caller.stream(file.path, ImageFormat::Jpeg, file.bytes.clone()).await?;
            Ok(answer.expect_status(201)?.image_id().to_owned())
        }
        Route::Form(server) => {
            let caller = caller.at(machine.url(server));
            caller.create_and_upload(file.path, ImageFormat::Jpeg, file.bytes.clone()).await
        }
    }
}

impl Route {
    fn server(self) -> &'static str {
        match self {
            Self::Stream => ServerName::V1.as_str(),
            Self::Form(server) => server.as_str(),
        }
    }
}
