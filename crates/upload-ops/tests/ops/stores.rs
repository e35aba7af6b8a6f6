//! `docs/stores/`: what `doctor --json` says of a store, for the matrix in docs/STORES.md. `.ci/stores` renews the files, and sets the two
//! variables. Without them, this compares the embedded store with its file, and asks no other store.

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use upload_sandbox::Stand;
use upload_storage::bucket::{self, Outcome};

use crate::world::{answer, ops, stand};

/// The store's name, as that of its file. With it the test writes the file.
const NAME: &str = "UPDATE_STORE";
/// The version of the store's program.
const VERSION: &str = "STORE_VERSION";
const EMBEDDED: &str = "embedded";
/// Answers about the machine, and not about the store.
const NOT_OF_THE_STORE: [&str; 3] = ["clocks", "public_differs", "pinned"];
/// Answers for which the bucket must have versions, if the store has any.
const OF_VERSIONS: [&str; 3] = ["versions_put", "versions_post", "keeps_old_versions"];

/// One file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Column {
    store: String,
    version: String,
    /// The settings to use.
    settings: BTreeMap<String, Option<String>>,
    /// Each question in words, by its id.
    questions: BTreeMap<String, String>,
    answers: BTreeMap<String, String>,
    /// What the store does instead.
    said: BTreeMap<String, String>,
}

#[tokio::test]
async fn the_matrix_is_what_the_doctor_says() {
    let stand = stand().await;
    let name = match env::var(NAME) {
        Ok(name) if !name.is_empty() => name,
        _ if stand.has_embedded_store() => EMBEDDED.to_owned(),
        _ => return,
    };
    let column = ask(&stand, &name).await;
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/stores").join(format!("{name}.json"));
    if env::var_os(NAME).is_some() {
        fs::write(&file, serde_json::to_string_pretty(&column).unwrap() + "\n").unwrap();
    }
    let kept: Column = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(kept, column, "{} is old; `.ci/stores {name}` renews it", file.display());
}

async fn ask(stand: &Stand, store: &str) -> Column {
    answer(stand, "bucket --cors-origins https://app.example").await;
    let mut column = Column {
        store: store.to_owned(),
        version: env::var(VERSION).unwrap_or_default(),
        settings: BTreeMap::new(),
        questions: BTreeMap::new(),
        answers: BTreeMap::new(),
        said: BTreeMap::new(),
    };
    column.take(stand, &doctor(stand, "copy").await, |id| !NOT_OF_THE_STORE.contains(&id));
    if let Ok(Outcome::Done) = bucket::enable_versioning(&stand.admin).await {
        answer(stand, "bucket --versioning --cors-origins https://app.example").await;
        column.take(stand, &doctor(stand, "version").await, |id| OF_VERSIONS.contains(&id));
    }
    column
}

async fn doctor(stand: &Stand, pin: &str) -> Value {
    let program = ops(stand, "doctor --json --cors-origins https://app.example").env("S3_PIN", pin);
    let finished = program.run().await.unwrap();
    assert!(matches!(finished.code, Some(0 | 1)), "{finished:?}");
    serde_json::from_str(&finished.stdout).unwrap()
}

impl Column {
    fn take(&mut self, stand: &Stand, report: &Value, counts: impl Fn(&str) -> bool) {
        self.settings = serde_json::from_value(report["settings"].clone()).unwrap();
        for check in report["checks"].as_array().unwrap() {
            let text = |name: &str| check[name].as_str().map(str::to_owned);
            let id = text("id").unwrap();
            if !counts(&id) {
                continue;
            }
            self.questions.insert(id.clone(), text("question").unwrap());
            self.answers.insert(id.clone(), text("answer").unwrap());
            self.said.remove(&id);
            if let Some(said) = text("said") {
                self.said.insert(id, said.replace(stand.bucket(), "…"));
            }
        }
    }
}
