//! Whether this process lives, and whether it should be sent requests.

use std::time::Duration;

use actix_web::{HttpResponse, http::header, web};
use serde::Serialize;
use tokio::time::timeout;
use tracing::warn;
use upload_storage::bucket::{self, Look};

use crate::{Shared, error::chain};

/// How long each part may take to answer.
const LIMIT: Duration = Duration::from_secs(3);

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    checks: Checks,
}

#[derive(Serialize, Clone, Copy)]
struct Checks {
    server: &'static str,
    postgres: &'static str,
    store: &'static str,
}

/// `GET /health/live`: the process answers.
pub(crate) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({ "status": "live" }))
}

/// `GET /health/ready`: Postgres and the bucket answer, and the server is not stopping. The body says which does not.
pub(crate) async fn ready(shared: web::Data<Shared>) -> HttpResponse {
    let server = if shared.shutdown.has_begun() { "stopping" } else { "ok" };
    let (database, storage) = (shared.database.clone(), shared.storage.clone());
    let probes = shared.background.spawn(async move {
        let postgres = async { judge("postgres", timeout(LIMIT, database.ping()).await) };
        let store = async {
            match timeout(LIMIT, bucket::look(&storage)).await {
                Ok(Ok(Look { exists: false, .. })) => "bucket missing",
                other => judge("store", other),
            }
        };
        futures::join!(postgres, store)
    });
    let (postgres, store) = probes.await.unwrap_or(("unknown", "unknown"));
    let checks = Checks { server, postgres, store };
    if [server, postgres, store].iter().all(|state| *state == "ok") {
        return HttpResponse::Ok().json(Readiness { status: "ready", checks });
    }
    HttpResponse::ServiceUnavailable()
        .insert_header((header::RETRY_AFTER, "1"))
        .json(Readiness { status: "unavailable", checks })
}

fn judge<T, E: std::error::Error + 'static>(
    part: &str,
    outcome: Result<Result<T, E>, tokio::time::error::Elapsed>,
) -> &'static str {
    match outcome {
        Ok(Ok(_)) => "ok",
        Ok(Err(error)) => {
            warn!(part, cause = chain(&error), "not ready");
            "failing"
        }
        Err(_elapsed) => {
            warn!(part, "not ready: no answer in time");
            "timeout"
        }
    }
}
