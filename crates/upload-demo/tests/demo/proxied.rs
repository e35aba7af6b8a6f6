//! nginx, and both servers behind it on one database and one bucket. Inside, nothing uses the names by which clients reach
//! nginx or the store, so a test sees a URL that was made from a wrong name.

use std::time::Duration;

use upload_domain::Role;
use upload_sandbox::{
    Sandbox, Stand,
    client::Client,
    nginx::{self, Active, Installed, Nginx, Routes},
    process::{Program, Server},
};

/// Both servers behind nginx.
pub struct Proxied {
    pub nginx: Nginx,
    pub v1: Server,
    pub v2: Server,
    pub stand: Stand,
    /// The store as clients reach it.
    pub public_store: String,
    settings: Vec<(String, String)>,
}

impl Proxied {
    /// Starts everything, with these settings for both servers; `None` if there is no nginx.
    pub async fn start(active: Active, settings: &[(&str, &str)]) -> Option<Self> {
        let installed = Installed::find().unwrap()?;
        let stand = Sandbox::shared().await.stand().await;
        let store = &stand.environment()["S3_ENDPOINT"];
        let public_store = store.trim_end_matches('/').replace("127.0.0.1", "localhost");
        let own = [
            ("PUBLIC_API_URL", installed.url()),
            ("S3_PUBLIC_ENDPOINT", public_store.clone()),
            ("TRUSTED_PROXIES", nginx::ADDRESS.to_owned()),
        ];
        let given = settings.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let settings: Vec<_> = own.into_iter().chain(given).map(|(name, value)| (name.to_owned(), value)).collect();
        let (v1, v2) = tokio::join!(serve("v1", &stand, &settings), serve("v2", &stand, &settings));
        let nginx = installed.start(&stand, &routes(&v1, &v2, active)).await.unwrap();
        Some(Self { nginx, v1, v2, stand, public_store, settings })
    }

    /// Makes nginx send the requests that both can answer to one of them, or to both.
    pub async fn switch(&self, active: Active) {
        self.nginx.switch(&routes(&self.v1, &self.v2, active)).await.unwrap();
    }

    /// Starts V1 again after its end, and gives nginx its new address. The same server stays active.
    pub async fn start_v1_again(&mut self, active: Active) {
        self.v1 = serve("v1", &self.stand, &self.settings).await;
        self.switch(active).await;
    }

    /// A new user, at nginx.
    pub async fn caller(&self) -> Client {
        let person = self.stand.add_person(Role::User).await.unwrap();
        Client::new(self.nginx.url(), person.token).unwrap()
    }

    /// The only active server.
    pub fn server(&self, active: Active) -> &Server {
        if active == Active::V1 { &self.v1 } else { &self.v2 }
    }

    /// All keys of the bucket.
    pub async fn keys(&self) -> Vec<String> {
        self.stand.storage.list("").await.unwrap()
    }
}

pub fn routes(v1: &Server, v2: &Server, active: Active) -> Routes {
    Routes { v1: v1.url.clone(), v2: v2.url.clone(), active }
}

/// A server's metric, read from the server directly; 0 if nothing has been counted yet.
pub async fn metric(server: &Server, name: &str) -> u64 {
    let answer = Client::anonymous(&server.url).unwrap().get("/metrics").await.unwrap().expect_status(200).unwrap();
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

/// Looks again and again, each time with a new request, until the condition holds.
pub async fn until(mut found: impl AsyncFnMut() -> bool) {
    let looked = tokio::time::timeout(Duration::from_secs(60), async { while !found().await {} });
    assert!(looked.await.is_ok(), "what the test waits for does not come");
}

/// Starts `v1` or `v2` with these settings.
pub async fn serve(name: &str, stand: &Stand, settings: &[(String, String)]) -> Server {
    let program = Program::new(env!("CARGO_BIN_EXE_upload-demo-server"), stand).env("SERVER", name);
    let program = settings.iter().fold(program, |program, (name, value)| program.env(name, value));
    program.serve().await.unwrap()
}
