//! Whether this process lives, and whether it should be sent requests.
//!
//! Anybody can ask for readiness, so frequent requests must not load the database or the store. Only one check runs at a time. Requests
//! that arrive meanwhile get its result, and the result is reused for one second.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
    web,
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::{
    sync::Mutex,
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info, warn};
use upload_domain::ClockDifference;
use upload_persistence::{Database, DatabaseError, migrations::SchemaStanding};
use upload_storage::{Storage, StorageError, chain};
use utoipa::ToSchema;

use super::{
    clocks::DatabaseClock,
    probe::{Probe, ProbeError, probe},
};
use crate::{Code, Operation, Shared, Shutdown};

/// How long each part may take to answer.
const LIMIT: Duration = Duration::from_secs(3);
/// How long a result is reused before the next check.
const VALID: Duration = Duration::from_secs(1);
/// How often the server compares the clocks when nobody asks for readiness.
const CLOCKS_EVERY: Duration = Duration::from_secs(5 * 60);

const OK: Cow<'static, str> = Cow::Borrowed("ok");

/// The database and the store, and the result of the last check.
#[derive(Debug)]
pub(crate) struct Health {
    database: Database,
    storage: Storage,
    database_clock: DatabaseClock,
    last: Mutex<Option<Finding>>,
}

#[derive(Debug)]
struct Finding {
    at: Instant,
    parts: Parts,
    difference: Option<ClockDifference>,
}

/// Each `ok`, or what is wrong.
#[derive(Debug, Clone)]
struct Parts {
    postgres: Cow<'static, str>,
    schema: Cow<'static, str>,
    store: Cow<'static, str>,
    clocks: Cow<'static, str>,
}

#[derive(Serialize, ToSchema)]
struct Liveness {
    /// `live`.
    status: &'static str,
}

/// Whether the server is ready for requests.
#[derive(Serialize, ToSchema)]
struct Readiness {
    /// `ready` or `unavailable`.
    status: &'static str,
    checks: Checks,
}

/// Each `ok`, or what is wrong.
#[derive(Serialize, ToSchema)]
struct Checks {
    server: Cow<'static, str>,
    postgres: Cow<'static, str>,
    schema: Cow<'static, str>,
    store: Cow<'static, str>,
    clocks: Cow<'static, str>,
}

pub(crate) fn live_operation() -> Operation {
    Operation::new("Operations", "getLiveness", "Check that the process answers")
        .answers::<Liveness>(StatusCode::OK, "The process answers. It checks nothing else.")
}

pub(crate) fn ready_operation() -> Operation {
    Operation::new("Operations", "getReadiness", "Check whether the server is ready for requests")
        .answers::<Readiness>(StatusCode::OK, "The server is ready.")
        .answers::<Readiness>(
            StatusCode::SERVICE_UNAVAILABLE,
            "The server is not ready; the body says which check fails.",
        )
        .refuses(&[Code::ShuttingDown])
}

/// `GET /health/live`: the process answers.
pub(crate) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(Liveness { status: "live" })
}

/// `GET /health/ready`: the server is not stopping; Postgres answers, and its schema is the one that this binary knows; the
/// bucket is there; the clocks agree. The body says which of these fails, and how.
pub(crate) async fn ready(shared: web::Data<Shared>) -> HttpResponse {
    let server = if shared.shutdown.has_begun() { "stopping".into() } else { OK };
    let health = Arc::clone(&shared.health);
    // On the main runtime and to its end, because later requests use the result too.
    let parts = shared.background.spawn(async move { health.parts().await });
    let Parts { postgres, schema, store, clocks } = parts.await.unwrap_or_else(|_panicked| Parts::unknown());
    let checks = Checks { server, postgres, schema, store, clocks };
    if checks.all_ok() {
        return HttpResponse::Ok().json(Readiness { status: "ready", checks });
    }
    HttpResponse::ServiceUnavailable()
        .insert_header((header::RETRY_AFTER, "1"))
        .json(Readiness { status: "unavailable", checks })
}

impl Health {
    pub(crate) fn new(database: Database, storage: Storage) -> Self {
        Self { database, storage, database_clock: DatabaseClock::default(), last: Mutex::new(None) }
    }

    /// The database's time, computed from the last comparison of the clocks.
    pub(crate) fn database_now(&self) -> DateTime<Utc> {
        self.database_clock.now()
    }

    /// Stores the result of the start-up check.
    pub(crate) async fn note(&self, probe: &Probe) {
        self.note_in(&mut *self.last.lock().await, probe);
    }

    /// Compares the clocks regularly until the server stops.
    pub(crate) async fn watch(&self, shutdown: &Shutdown) {
        let mut ticks = interval(CLOCKS_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = async {
                ticks.tick().await;
                self.parts().await
            };
            tokio::select! {
                () = shutdown.begun() => return,
                _parts = next => {}
            }
        }
    }

    async fn parts(&self) -> Parts {
        let mut last = self.last.lock().await;
        if let Some(finding) = last.as_ref().filter(|finding| finding.at.elapsed() < VALID) {
            return finding.parts.clone();
        }
        let probe = probe(&self.database, &self.storage, LIMIT).await;
        self.note_in(&mut last, &probe)
    }

    fn note_in(&self, last: &mut Option<Finding>, probe: &Probe) -> Parts {
        if let Some(offset) = probe.offsets.database {
            self.database_clock.set(offset);
        }
        let finding = Finding::new(probe);
        finding.log_changes_since(last.as_ref(), probe);
        last.insert(finding).parts.clone()
    }
}

impl Finding {
    fn new(probe: &Probe) -> Self {
        let (postgres, schema) = match &probe.database {
            Ok(SchemaStanding::Current) => (OK, OK),
            Ok(SchemaStanding::Older { missing }) => (OK, format!("older: lacks {}", missing.join(", ")).into()),
            Ok(SchemaStanding::Newer { unknown }) => (OK, format!("newer: has {}", unknown.join(", ")).into()),
            Err(error) => (error.word(), "unknown".into()),
        };
        let store = match &probe.store {
            Ok(true) => OK,
            Ok(false) => "bucket missing".into(),
            Err(error) => error.word(),
        };
        let difference = probe.offsets.difference();
        let clocks = match difference {
            Some(difference) if !difference.is_tolerable() => difference.to_string().into(),
            _ if probe.is_complete() => OK,
            _ => "unknown".into(),
        };
        Self { at: Instant::now(), parts: Parts { postgres, schema, store, clocks }, difference }
    }

    /// Logs one line when a part begins to fail or fails differently, and one when it recovers, not one for each request.
    fn log_changes_since(&self, before: Option<&Self>, probe: &Probe) {
        let before_parts = before.map_or_else(Parts::ok, |before| before.parts.clone());
        let (now, then) = (&self.parts, &before_parts);
        log_change("postgres", &now.postgres, &then.postgres, || probe.database.as_ref().err().map(ProbeError::cause));
        log_change("schema", &now.schema, &then.schema, || None);
        log_change("store", &now.store, &then.store, || probe.store.as_ref().err().map(ProbeError::cause));

        let then = before.and_then(|before| before.difference);
        match (&self.difference, &then) {
            (Some(now), Some(then)) if now.is_like(then) => {}
            (Some(now), _) if now.is_tolerable() => {
                warn!("{now}; check NTP: at more than 30 s this server is not ready")
            }
            (Some(now), _) => error!("{now}; this server is not ready until the clocks agree; check NTP"),
            (None, Some(_)) if probe.is_complete() => info!("the clocks agree again"),
            (None, _) => {}
        }
    }
}

impl Parts {
    fn ok() -> Self {
        Self { postgres: OK, schema: OK, store: OK, clocks: OK }
    }

    fn unknown() -> Self {
        let unknown = || Cow::Borrowed("unknown");
        Self { postgres: unknown(), schema: unknown(), store: unknown(), clocks: unknown() }
    }
}

impl Checks {
    fn all_ok(&self) -> bool {
        let Self { server, postgres, schema, store, clocks } = self;
        [server, postgres, schema, store, clocks].into_iter().all(|state| *state == OK)
    }
}

impl<E: std::error::Error + 'static> ProbeError<E> {
    fn cause(&self) -> String {
        match self {
            Self::Failed(error) => chain(error),
            Self::NoAnswer => format!("no answer within {} s", LIMIT.as_secs()),
        }
    }
}

impl ProbeError<DatabaseError> {
    fn word(&self) -> Cow<'static, str> {
        match self {
            Self::Failed(DatabaseError::Overloaded) => "overloaded".into(),
            Self::Failed(_) => "failing".into(),
            Self::NoAnswer => "timeout".into(),
        }
    }
}

impl ProbeError<StorageError> {
    fn word(&self) -> Cow<'static, str> {
        match self {
            Self::Failed(StorageError::Refused(_)) => "refused".into(),
            Self::Failed(StorageError::Timeout(_)) | Self::NoAnswer => "timeout".into(),
            Self::Failed(StorageError::Unavailable(_)) => "failing".into(),
        }
    }
}

fn log_change(part: &str, now: &str, then: &str, cause: impl FnOnce() -> Option<String>) {
    match (now, then) {
        _ if now == then => {}
        ("ok", _) => info!(part, "ready again"),
        _ => warn!(part, state = now, cause = cause(), "not ready"),
    }
}
