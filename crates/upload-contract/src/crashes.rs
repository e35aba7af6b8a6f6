//! What a server leaves that dies, or that gives up a copy which the store makes after all: nothing for ever. The check after each case
//! lets the time of all attempts be over, sweeps, and compares `media/` with what images name.

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
    // The leases end, and the next link makes copies of its own.
    images.assert_linkable(subject, &household).await
}

/// The store makes the copy when the server has given it up, has seen that there is none, and has linked another.
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
    // Through a server that reaches its store.
    for (what, answer) in images.link(&household, &household.admin).await? {
        answer.expect_status(201).context(what)?;
    }
    // What was uploaded goes after the link; a form that is replayed brings it back.
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
