//! One server replaces the other, behind nginx, while clients go on: no client fails and nothing is lost.
//!
//! The steps have the order of docs/OPERATIONS.md. The client is the sandbox's, which knows nothing of the switch.

use chrono::{DateTime, Utc};
use tokio::{sync::watch, task::JoinSet};
use upload_domain::{ImageFormat, ImagePath};
use upload_sandbox::{
    Stand,
    client::{Answer, Client},
    nginx::{Active, Routes},
    process::Server,
    samples::jpeg_of_exactly,
};

use crate::proxied::{Proxied, metric, until};

const CLIENTS: u64 = 6;
const USERS: u64 = 8;
const FILE_BYTES: usize = 300_000;

/// The requests that a server has answered with success since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Done {
    created: u64,
    uploaded: u64,
    linked: u64,
}

const NOTHING: Done = Done { created: 0, uploaded: 0, linked: 0 };

/// A linked image that a server has acknowledged. The seed makes its bytes.
#[derive(Debug)]
struct Acknowledged {
    image: String,
    seed: u64,
}

/// The clients' progress so far.
#[derive(Debug, Default)]
struct Progress {
    acknowledged: Vec<Acknowledged>,
    /// When the last form that points to V1 expires.
    last_ticket: DateTime<Utc>,
}

/// Clients that repeat their round until they are told to stop. If one fails, the test ends.
struct Loop {
    clients: JoinSet<()>,
    stop: watch::Sender<bool>,
    progress: watch::Sender<Progress>,
}

impl Loop {
    async fn start(proxied: &Proxied) -> Self {
        let (stop, progress) = (watch::Sender::new(false), watch::Sender::new(Progress::default()));
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            // Each client takes several users in turn, so that a split always has some users on either side.
            let mut callers = Vec::new();
            for _user in 0..USERS {
                callers.push(proxied.caller().await);
            }
            let (stop, progress) = (stop.clone(), progress.clone());
            clients.spawn(async move {
                for (caller, seed) in callers.iter().cycle().zip(number * 1_000_000..) {
                    let created = create(caller).await;
                    if has_ticket(&created) {
                        let expires = expiry(&created);
                        progress.send_modify(|progress| progress.last_ticket = progress.last_ticket.max(expires));
                    }
                    let done = upload_and_link(caller, &created, seed).await;
                    progress.send_modify(|progress| progress.acknowledged.push(done));
                    if *stop.borrow() {
                        return;
                    }
                }
            });
        }
        Self { clients, stop, progress }
    }

    /// Lets the clients go on for two rounds each.
    async fn go_on(&mut self) {
        self.go_on_until(async || true).await;
    }

    /// Lets the clients go on for two rounds each, and then until `enough` is true.
    async fn go_on_until(&mut self, mut enough: impl AsyncFnMut() -> bool) {
        let mut progress = self.progress.subscribe();
        let rounds = progress.borrow().acknowledged.len() + 2 * CLIENTS as usize;
        let going_on = async {
            progress.wait_for(|progress| progress.acknowledged.len() >= rounds).await.unwrap();
            while !enough().await {
                progress.changed().await.unwrap();
            }
        };
        tokio::select! {
            () = going_on => {}
            Some(ended) = self.clients.join_next() => panic!("a client ended by itself: {ended:?}"),
        }
    }

    /// Stops the clients at the end of their rounds.
    async fn end(mut self) -> Vec<Acknowledged> {
        self.stop.send_replace(true);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        self.progress.send_replace(Progress::default()).acknowledged
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v1_is_replaced_by_v2_and_back_while_clients_go_on() {
    let Some(mut proxied) = Proxied::start(Active::V1, &[("FORM_TTL", "10")]).await else { return };
    let caller = proxied.caller().await;
    let mut clients = Loop::start(&proxied).await;
    clients.go_on().await;
    assert_eq!(done(&proxied.v2).await, NOTHING);

    // V2 gets a share of the callers, and then none again.
    proxied.switch(Active::Split(50)).await;
    let before = done(&proxied.v1).await;
    let both_answer = async || {
        let (v1, v2) = (done(&proxied.v1).await, done(&proxied.v2).await);
        v1.created > before.created && v1.linked > before.linked && v2.created > 0 && v2.linked > 0
    };
    clients.go_on_until(both_answer).await;
    assert_stays_on_one_side(&caller).await;
    proxied.switch(Active::V1).await;
    let v2_before = done(&proxied.v2).await;
    clients.go_on().await;
    assert_eq!(done(&proxied.v2).await, v2_before, "the share was taken back");

    // V2 for everything but V1's forms, and back again.
    proxied.switch(Active::V2).await;
    let v1_before = done(&proxied.v1).await;
    clients.go_on().await;
    assert_eq!(done(&proxied.v1).await.created, v1_before.created);
    proxied.switch(Active::V1).await;
    let v2_before = done(&proxied.v2).await;
    clients.go_on().await;
    assert_eq!(done(&proxied.v2).await, v2_before, "all of it was taken back");

    // V2 once more, until the last of V1's forms has expired.
    let (early, unused) = (create(&caller).await, create(&caller).await);
    assert!(has_ticket(&early));
    proxied.switch(Active::V2).await;
    let v1_before = done(&proxied.v1).await;
    let mut acknowledged = vec![upload_and_link(&caller, &early, 1).await];
    let (progress, stand) = (clients.progress.clone(), &proxied.stand);
    let all_expired = async || {
        let last = progress.borrow().last_ticket.max(expiry(&unused));
        is_past(stand, last).await && metric(&proxied.v1, "uploads_active").await == 0
    };
    clients.go_on_until(all_expired).await;
    let v1_after = done(&proxied.v1).await;
    assert_eq!((v1_after.created, v1_after.linked), (v1_before.created, v1_before.linked));
    assert!(v1_after.uploaded > v1_before.uploaded, "the forms from before");
    let late = caller.upload(unused.form(), jpeg_of_exactly(FILE_BYTES, 2)).await.unwrap();
    assert_eq!(late.refusal(), (403, "form_expired"));

    // V1 stops, and nginx sends V1's requests to V2, too.
    let v1_only_v2 = Routes { v1: proxied.v2.url.clone(), v2: proxied.v2.url.clone(), active: Active::V2 };
    proxied.nginx.switch(&v1_only_v2).await.unwrap();
    assert_eq!(proxied.v1.terminate().await.unwrap(), Some(0), "no upload was cut off");
    clients.go_on().await;
    let gone = caller.upload(unused.form(), jpeg_of_exactly(FILE_BYTES, 2)).await.unwrap();
    assert_eq!(gone.refusal(), (404, "not_found"), "as V2 has it");

    // And back: V2's forms lead to the store, so V2 may stop as soon as nginx has switched.
    let early = create(&caller).await;
    assert!(early.form()["url"].as_str().unwrap().starts_with(&proxied.public_store));
    // While nginx reloads, workers with the old and the new routes answer side by side. So no server may give out a form for V1
    // before all workers know V1's address.
    proxied.start_v1_again(Active::V2).await;
    proxied.switch(Active::V1).await;
    assert_eq!(proxied.v2.terminate().await.unwrap(), Some(0));
    acknowledged.push(upload_and_link(&caller, &early, 3).await);
    let v2_only_v1 = Routes { v1: proxied.v1.url.clone(), v2: proxied.v1.url.clone(), active: Active::V1 };
    proxied.nginx.switch(&v2_only_v1).await.unwrap();
    clients.go_on().await;
    let v1 = done(&proxied.v1).await;
    assert!(v1.created > 0 && v1.uploaded > 0 && v1.linked > v1.uploaded.saturating_sub(CLIENTS), "{v1:?}");

    acknowledged.extend(clients.end().await);
    assert_nothing_is_lost(&proxied, &caller, &acknowledged).await;
}

/// Asserts that every acknowledged image is there and whole, and that there is nothing else.
async fn assert_nothing_is_lost(proxied: &Proxied, caller: &Client, acknowledged: &[Acknowledged]) {
    println!("{} images were acknowledged", acknowledged.len());
    for Acknowledged { image, seed } in acknowledged {
        let read = caller.download(image).await.unwrap().expect_status(200).unwrap();
        assert!(read.body == jpeg_of_exactly(FILE_BYTES, *seed), "{image} has other bytes");
    }
    let linked = proxied.stand.count("image WHERE linked_at IS NOT NULL AND attempt IS NULL").await.unwrap();
    assert_eq!(linked, acknowledged.len() as u64);
    // V2 removes a linked upload from incoming/ only after its answer.
    until(async || proxied.stand.storage.list("incoming/").await.unwrap().is_empty()).await;
    assert_eq!(proxied.keys().await.len(), acknowledged.len());
}

async fn assert_stays_on_one_side(caller: &Client) {
    let strategy = async || caller.limits().await.unwrap().json["strategy"].clone();
    let first = strategy().await;
    for _again in 0..10 {
        assert_eq!(strategy().await, first);
    }
}

/// Asks the database, because its clock dates a form.
async fn is_past(stand: &Stand, moment: DateTime<Utc>) -> bool {
    let rows = stand.sql(&format!("SELECT clock_timestamp() > '{}'", moment.to_rfc3339())).await.unwrap();
    rows[0][0].as_deref() == Some("t")
}

async fn create(caller: &Client) -> Answer {
    caller.create_image(ImagePath::Post, ImageFormat::Jpeg).await.unwrap().expect_status(201).unwrap()
}

/// The rest of a client's round.
async fn upload_and_link(caller: &Client, created: &Answer, seed: u64) -> Acknowledged {
    let file = jpeg_of_exactly(FILE_BYTES, seed);
    let uploaded = caller.upload(created.form(), file.clone()).await.unwrap();
    assert_eq!(uploaded.status, 201, "{uploaded:?}");
    let image = created.image_id().to_owned();
    caller.create_post("title", "content", &[&image]).await.unwrap().expect_status(201).unwrap();
    let read = caller.download(&image).await.unwrap().expect_status(200).unwrap();
    assert!(read.body == file, "{image} has other bytes");
    Acknowledged { image, seed }
}

fn expiry(created: &Answer) -> DateTime<Utc> {
    created.form()["expiresAt"].as_str().unwrap().parse().unwrap()
}

/// Whether the form is one of V1.
fn has_ticket(created: &Answer) -> bool {
    created.form()["url"].as_str().unwrap().contains("/uploads?ticket=")
}

/// Reads the counts from the server itself.
async fn done(server: &Server) -> Done {
    let answered = async |route: &str| {
        let name = format!("http_requests_total{{method=\"POST\",route=\"{route}\",status=\"201\"}}");
        metric(server, &name).await
    };
    let (created, uploaded) = (answered("/user/images").await, answered("/uploads").await);
    Done { created, uploaded, linked: answered("/user/posts").await }
}
