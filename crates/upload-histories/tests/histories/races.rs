//! Races, each in many rounds on four replicas: exactly one wins, and no byte that was acknowledged changes.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use futures::{future::join_all, join};
use upload_domain::{INCOMING_PREFIX, ImageFormat, ImagePath, Role};
use upload_sandbox::{
    client::{Answer, Client},
    relay::Mode,
    samples,
};

use crate::{
    script::{Clock, Task},
    tally::Tally,
    world::World,
};

const MANY: usize = 16;
const SWEEPERS: usize = 8;
/// Images for the sweepers, more than one batch of any of them would leave to the others.
const EXPIRED: usize = 24;
const REPLAYS: u64 = 4;
/// Replicas of V2 in a world.
const COPYING: usize = 2;
const PINNING: usize = 3;
const BEFORE_THE_CUTOFF_SECONDS: i64 = 57 * 60;

#[derive(Debug, Clone, Copy)]
enum Race {
    /// One image to sixteen targets at once.
    Links,
    /// The last link that is allowed, and sweeps.
    LinkAndSweep,
    /// A link that stops until its image is swept.
    LateLinkAndSweep,
    /// Eight sweepers.
    Sweepers,
    /// A form that is used again after the link.
    Replays,
    /// A form that is used again during the link.
    ReplaysDuringTheLink,
    /// A server that is stopped (SIGSTOP) while it links, until its lease is over and another server has linked the image.
    PausedLinker,
}

const RACES: [Race; 7] = [
    Race::Links,
    Race::LinkAndSweep,
    Race::LateLinkAndSweep,
    Race::Sweepers,
    Race::Replays,
    Race::ReplaysDuringTheLink,
    Race::PausedLinker,
];

/// An image that waits for its link.
struct Uploaded {
    id: String,
    form: serde_json::Value,
    client: Client,
}

/// One worker's share of the rounds of each race. Every other round has a bucket with versions.
pub async fn run(rounds: u64, share: u64, shares: u64) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut worlds = [None, None];
    for round in (0..rounds).skip(usize::try_from(share)?).step_by(usize::try_from(shares)?) {
        let versions = round % 2 == 1;
        let world = &mut worlds[usize::from(versions)];
        for race in RACES {
            let world = match world {
                Some(world) => world,
                None => world.insert(World::start(versions).await?),
            };
            let outcome = race.run(world, round).await;
            let said = outcome.with_context(|| format!("{race:?}, round {round}: {}", world.complaints()))?;
            tally.heard(&format!("{race:?}"), said);
        }
    }
    Ok(tally)
}

impl Race {
    /// Says who has won.
    async fn run(self, world: &mut World, round: u64) -> Result<&'static str> {
        let linker = if world.versions { PINNING } else { COPYING };
        let said = match self {
            Self::Links => links(world, linker).await?,
            Self::LinkAndSweep => link_and_sweep(world, linker).await?,
            Self::LateLinkAndSweep => late_link_and_sweep(world, linker).await?,
            Self::Sweepers => sweepers(world, linker).await?,
            Self::Replays => replays(world, linker, round).await?,
            Self::ReplaysDuringTheLink => replays_during_the_link(world, linker, round).await?,
            Self::PausedLinker => paused_linker(world, linker).await?,
        };
        // Nothing that is linked may be missing, and everything that is left is older than any form or attempt.
        world.settle().await?;
        world.tend(Task::Audit, None).await?;
        world.pass(Clock::Hours2).await?;
        world.tend(Task::Sweep, None).await?;
        world.tend(Task::Audit, None).await?;
        let pending = world.stand.count("image WHERE linked_at IS NULL").await?;
        ensure!(pending == 0, "{pending} images stay pending");
        let incoming = world.stand.storage.list(INCOMING_PREFIX).await?.len();
        let pinned = world.stand.count("image WHERE media_version IS NOT NULL").await?;
        ensure!(incoming as u64 <= pinned, "{incoming} objects stay under incoming keys, and {pinned} are pinned");
        Ok(said)
    }
}

async fn uploaded(world: &mut World, replica: usize, path: ImagePath) -> Result<Uploaded> {
    let person = world.stand.add_person(Role::User).await?;
    let client = Client::new(world.url_of(replica).await?, &person.token)?;
    let created = client.create_image(path, ImageFormat::Png).await?.expect_status(201)?;
    client.upload(created.form(), picture(1)).await?.expect_status(201)?;
    Ok(Uploaded { id: created.image_id().to_owned(), form: created.form().clone(), client })
}

fn picture(seed: u64) -> Bytes {
    samples::png(32, 300, seed).into()
}

/// Of these answers exactly one made the link, and the others say why they did not.
fn one_won(answers: Vec<Result<Answer>>) -> Result<()> {
    let mut won = 0;
    for answer in answers {
        let answer = answer?;
        match answer.refusal() {
            (201, _) => won += 1,
            (200, _) | (409, "link_in_progress" | "already_linked") => {}
            other => bail!("a link answers {other:?}"),
        }
    }
    ensure!(won == 1, "{won} links were made");
    Ok(())
}

async fn links(world: &mut World, linker: usize) -> Result<&'static str> {
    let image = uploaded(world, linker, ImagePath::UserProfile).await?;
    let in_posts = uploaded(world, linker, ImagePath::Post).await?;
    let mut urls = Vec::new();
    for replica in 0..world.replicas.len() {
        urls.push(world.url_of(replica).await?);
    }
    let url = |place: usize| urls[place % urls.len()].clone();
    let clients = |image: &Uploaded| (0..MANY).map(|place| image.client.at(url(place))).collect::<Vec<_>>();
    let (for_profiles, for_posts) = (clients(&image), clients(&in_posts));
    let profiles = for_profiles.iter().map(|client| client.link_profile(&image.id));
    let ids = [&in_posts.id];
    let posts = for_posts.iter().map(|client| client.create_post("Title", "", &ids));
    let (profiles, posts) = join!(join_all(profiles), join_all(posts));
    one_won(profiles).context("one profile")?;
    one_won(posts).context("sixteen posts")?;
    image.serves(1).await?;
    in_posts.serves(1).await?;
    Ok("one of sixteen")
}

async fn link_and_sweep(world: &mut World, linker: usize) -> Result<&'static str> {
    let image = uploaded(world, linker, ImagePath::UserProfile).await?;
    world.pass_seconds(BEFORE_THE_CUTOFF_SECONDS).await?;
    let (linked, first, second) =
        join!(image.client.link_profile(&image.id), world.tend(Task::Sweep, None), world.tend(Task::Sweep, None));
    first?;
    second?;
    match linked?.refusal() {
        (201, _) => image.serves(1).await.map(|()| "the link"),
        (404, "image_not_found") | (410, "image_expired") => Ok("the sweep"),
        other => bail!("the link answers {other:?}"),
    }
}

async fn late_link_and_sweep(world: &mut World, linker: usize) -> Result<&'static str> {
    let image = uploaded(world, linker, ImagePath::UserProfile).await?;
    let store = &world.replicas[linker].links().store;
    let meanwhile = async {
        store.hold(Mode::HoldAnswers).await;
        world.pass(Clock::Hours2).await?;
        world.tend(Task::Sweep, None).await?;
        store.set(Mode::Pass);
        anyhow::Ok(())
    };
    let (linked, meanwhile) = join!(image.client.link_profile(&image.id), meanwhile);
    meanwhile?;
    let linked = linked?;
    ensure!(linked.status >= 400, "an image that was swept is linked");
    ensure!(image.client.read(&image.id).await?.status == 404, "an image that was swept is read");
    Ok("the sweep")
}

async fn sweepers(world: &mut World, linker: usize) -> Result<&'static str> {
    let image = uploaded(world, linker, ImagePath::Post).await?;
    for _ in 1..EXPIRED {
        let created = image.client.create_image(ImagePath::Post, ImageFormat::Png).await?;
        if created.status == 429 {
            break;
        }
        image.client.upload(created.expect_status(201)?.form(), picture(1)).await?.expect_status(201)?;
    }
    let expired = world.stand.count("image WHERE linked_at IS NULL").await?;
    world.pass(Clock::Hours2).await?;
    let mut swept = 0;
    for sweep in join_all((0..SWEEPERS).map(|_| world.tend(Task::Sweep, None))).await {
        let said = sweep?.0.context("a sweep was killed")?.stdout;
        let count = said.split(' ').nth(1).and_then(|count| count.parse::<u64>().ok());
        swept += count.with_context(|| format!("a sweep says {said}"))?;
    }
    ensure!(swept == expired, "{SWEEPERS} sweeps remove {swept} images of {expired}");
    Ok("each image once")
}

async fn replays(world: &mut World, linker: usize, round: u64) -> Result<&'static str> {
    let image = uploaded(world, linker, ImagePath::UserProfile).await?;
    image.client.link_profile(&image.id).await?.expect_status(201)?;
    let replays = join_all((0..REPLAYS).map(|replay| image.client.upload(&image.form, picture(round + replay + 2))));
    let (replays, read) = join!(replays, image.client.download(&image.id));
    for replay in replays {
        replay?.expect_status(201)?;
    }
    ensure!(read?.body == picture(1), "a replay changes what is served meanwhile");
    image.serves(1).await?;
    Ok("the first bytes")
}

async fn replays_during_the_link(world: &mut World, linker: usize, round: u64) -> Result<&'static str> {
    let image = uploaded(world, linker, ImagePath::UserProfile).await?;
    let replays =
        join_all((0..REPLAYS).map(|replay| image.client.upload(&image.form, picture(2 + (round + replay) % 2))));
    let (replays, mut linked) = join!(replays, image.client.link_profile(&image.id));
    for replay in replays {
        replay?.expect_status(201)?;
    }
    if linked.as_ref().is_ok_and(|linked| linked.code() == "upload_changed") {
        linked = image.client.link_profile(&image.id).await;
    }
    linked?.expect_status(201)?;
    let served = image.client.download(&image.id).await?.body;
    let seed = (1..4).find(|seed| served == picture(*seed)).context("bytes that nobody uploaded are served")?;
    image.client.upload(&image.form, picture(9)).await?.expect_status(201)?;
    image.serves(seed).await?;
    Ok(if seed == 1 { "the first bytes" } else { "a replay" })
}

async fn paused_linker(world: &mut World, linker: usize) -> Result<&'static str> {
    let image = uploaded(world, linker, ImagePath::UserProfile).await?;
    let other = image.client.at(world.url_of(0).await?);
    let replica = &world.replicas[linker];
    let store = &replica.links().store;
    let meanwhile = async {
        store.hold(Mode::HoldAnswers).await;
        replica.pause().await?;
        store.set(Mode::Pass);
        world.pass(Clock::Minutes3).await?;
        let linked = other.link_profile(&image.id).await;
        // It must go on in any case, or nothing ends it.
        replica.go_on();
        linked?.expect_status(201)
    };
    let (late, linked) = join!(image.client.link_profile(&image.id), meanwhile);
    linked?;
    let late = late?;
    match late.refusal() {
        // The link that won has also removed the upload.
        (200, _) | (409, "already_linked" | "not_uploaded") => {}
        other => bail!("the link that was paused answers {other:?}"),
    }
    image.serves(1).await?;
    Ok("the one that was not paused")
}

impl Uploaded {
    async fn serves(&self, seed: u64) -> Result<()> {
        let served = self.client.download(&self.id).await?.expect_status(200)?;
        ensure!(served.body == picture(seed), "other bytes are served than were acknowledged");
        Ok(())
    }
}
