//! A server may die, or give up a copy that the store makes after all. It leaves nothing that stays for ever: the check after each case
//! ends the time of all attempts, sweeps, and compares `media/` with the keys that images name.

use anyhow::{Context as _, Result};
use upload_domain::{INCOMING_PREFIX, MEDIA_PREFIX, incoming_key};
use upload_sandbox::relay::Mode;

use super::{
    outages::{COPY, Uploaded, without_its_store},
    routes::Household,
    subject::{Subject, assert_refused, picture},
};

pub(super) async fn a_server_that_dies_after_its_copy_leaves_nothing_behind(subject: &mut Subject) -> Result<()> {
    subject.errors_expected = true;
    let household = Household::new(subject).await?;
    let (store, dying) = without_its_store(subject, &[]).await?;
    let images = Uploaded::new(subject, &household).await?;
    store.set(Mode::HoldAnswersTo(COPY));
    let kill = async {
        store.holds(images.ids().len()).await;
        subject.server()?.kill();
        anyhow::Ok(())
    };
    let (links, killed) = futures::join!(images.link(&household, &dying), kill);
    killed?;
    anyhow::ensure!(links.is_err(), "a server that is dead has answered");
    subject.retire_server().await?;
    assert_eq!(subject.stand.storage.list(MEDIA_PREFIX).await?.len(), 3, "the copies are made");
    // The attempts' time ends, and the next link makes its own copies.
    images.assert_linkable(subject, &household).await
}

/// The server gives up a copy, finds that there is none, and links another copy. Only then does the store make the first one.
pub(super) async fn a_copy_that_comes_late_leaves_nothing_behind(subject: &mut Subject) -> Result<()> {
    subject.errors_expected = true;
    let household = Household::new(subject).await?;
    let (store, waiting) = without_its_store(subject, &[]).await?;
    let images = Uploaded::new(subject, &household).await?;
    store.set(Mode::HoldRequestsWith(COPY));
    for (what, answer) in images.link(&household, &waiting).await? {
        assert_refused(what, &answer, (503, "storage_timeout"));
    }
    images.assert_released(subject).await?;
    let storage = &subject.stand.storage;
    assert_eq!(storage.list(MEDIA_PREFIX).await?, [""; 0]);
    // Through the other server, which reaches its store.
    for (what, answer) in images.link(&household, &household.admin).await? {
        answer.expect_status(201).context(what)?;
    }
    // The object under the incoming key goes after the link. A client that replays its form brings it back.
    while !storage.list(INCOMING_PREFIX).await?.is_empty() {}
    for id in images.ids() {
        storage.put(&incoming_key(id.parse()?), "image/png", picture(1).into()).await?;
    }
    store.set(Mode::Pass);
    while storage.list(MEDIA_PREFIX).await?.len() < 6 {}
    for id in images.ids() {
        storage.delete(&incoming_key(id.parse()?)).await?;
    }
    Ok(())
}
