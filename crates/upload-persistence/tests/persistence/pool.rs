//! The pool under failures: cancelled work, no free connection, a lost one, a database that is down or does not answer.

use std::{pin::pin, task::Poll};

use diesel_async::{AsyncConnection, SimpleAsyncConnection};
use secrecy::SecretString;
use upload_domain::ImagePath;
use upload_persistence::{
    Connection, Database, DatabaseError, DatabaseSettings, QueryError, QueryResult,
    images::{self, NewImage},
    quotas::Quota,
};
use upload_sandbox::relay::{Mode, Relay};

use crate::world::{World, new_image};

/// Polls a future a few times, then drops it unfinished.
async fn drop_after<F: Future>(polls: usize, future: F) {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Pending if left > 0 => Poll::Pending,
            _ => Poll::Ready(()),
        }
    })
    .await;
}

async fn transaction(connection: &mut Connection, image: &images::NewImage) -> QueryResult<()> {
    connection
        .transaction(async |connection| {
            images::insert_pending(connection, image, &Quota::UNLIMITED).await?.unwrap();
            connection.batch_execute("SELECT 1").await
        })
        .await
}

/// Postgres commits a statement when it reads the message after it, and sends the statement's rows even if its session ends before.
#[tokio::test]
async fn a_row_of_a_statement_that_is_not_committed_is_no_answer() {
    let world = World::new().await;
    let (url, relay) = Relay::before(&world.stand.database_url).await.unwrap();
    let database = world.database(|settings| {
        settings.database_url = SecretString::from(url);
        settings.database_pool_size = 1;
    });
    let insert = async |image: NewImage| {
        let mut connection = database.connection().await?;
        Ok::<_, DatabaseError>(images::insert_pending(&mut connection, &image, &Quota::UNLIMITED).await?.unwrap())
    };
    // The first time the statement is prepared. The second time shows how long it is.
    let mut sent = 0;
    for _ in 0..2 {
        let before = relay.passed();
        insert(new_image(world.user, ImagePath::Post)).await.unwrap();
        sent = relay.passed().since(before).requested_bytes;
    }
    let image = new_image(world.user, ImagePath::Post);
    let end_session = async {
        relay.hold_after(sent - 1, Mode::HoldRequests).await;
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND query LIKE '%INSERT INTO image%' AND pid <> pg_backend_pid()";
        assert_eq!(world.stand.sql(end).await.unwrap().len(), 1);
        relay.set(Mode::Pass);
    };
    let (inserted, ()) = tokio::join!(insert(image), end_session);
    assert!(inserted.is_err(), "{inserted:?}");
    assert!(images::find_for_update(&mut *world.connection().await, image.id).await.unwrap().is_none());
}

/// diesel-async#198: a transaction dropped between BEGIN and its answer must not go back to the pool as a fresh connection.
#[tokio::test]
async fn a_transaction_dropped_anywhere_leaves_the_pool_usable() {
    let world = World::new().await;
    let database = world.database(|settings| settings.database_pool_size = 1);
    for polls in 1..=8 {
        let cancelled = new_image(world.user, ImagePath::Post);
        {
            let mut connection = database.connection().await.unwrap();
            drop_after(polls, transaction(&mut connection, &cancelled)).await;
        }
        let kept = new_image(world.user, ImagePath::Post);
        let mut connection = database.connection().await.unwrap();
        images::insert_pending(&mut connection, &kept, &Quota::UNLIMITED).await.unwrap().unwrap();
        // Another connection sees the row, so no transaction was left open.
        let committed = images::find_for_update(&mut *world.connection().await, kept.id).await.unwrap();
        assert!(committed.is_some(), "after {polls} polls");
    }
}

#[tokio::test]
async fn a_statement_dropped_while_it_runs_leaves_the_pool_usable() {
    let world = World::new().await;
    let database = world.database(|settings| {
        settings.database_pool_size = 1;
        settings.database_statement_timeout_ms = 1000;
    });
    {
        let mut connection = database.connection().await.unwrap();
        drop_after(2, connection.batch_execute("SELECT pg_sleep(3600)")).await;
    }
    database.ping().await.unwrap();
}

#[tokio::test]
async fn without_a_free_connection_a_request_is_told_so() {
    let world = World::new().await;
    let database = world.database(|settings| {
        settings.database_pool_size = 1;
        settings.database_wait_timeout_ms = 10;
    });
    let connection = database.connection().await.unwrap();
    assert!(matches!(database.connection().await, Err(DatabaseError::Overloaded)));
    assert!(matches!(database.ping().await, Err(DatabaseError::Overloaded)));
    drop(connection);
    database.ping().await.unwrap();
}

#[tokio::test]
async fn a_lost_connection_fails_its_user_and_is_replaced() {
    let world = World::new().await;
    let database = world.database(|settings| settings.database_pool_size = 1);
    let pid = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND query = 'SELECT 77'";
    for while_in_use in [true, false] {
        let mut connection = database.connection().await.unwrap();
        connection.batch_execute("SELECT 77").await.unwrap();
        let pid = world.value(pid).await.unwrap();
        let terminate = format!("SELECT pg_terminate_backend({pid}, 10000)");
        if while_in_use {
            world.sql(&terminate).await;
            let error = DatabaseError::from(connection.batch_execute("SELECT 1").await.unwrap_err());
            assert!(matches!(error, DatabaseError::Unavailable(_)), "{error:?}");
            drop(connection);
        } else {
            drop(connection);
            world.sql(&terminate).await;
        }
        // The pool may notice now or a moment later, but one connection cannot fail more than two users.
        let mut failures = 0;
        while let Err(error) = database.ping().await {
            assert!(matches!(error, DatabaseError::Unavailable(_)), "{error:?}");
            failures += 1;
            assert!(failures <= 2, "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_does_not_answer_is_cut_off() {
    let world = World::new().await;
    let database = world.database(|settings| {
        settings.database_pool_size = 1;
        settings.database_statement_timeout_ms = 500;
    });
    let mut connection = database.connection().await.unwrap();
    // This acts like a server that has stopped: it does not end the statement by itself.
    connection.batch_execute("SET statement_timeout = 0").await.unwrap();
    let error = DatabaseError::from(connection.batch_execute("SELECT pg_sleep(3600)").await.unwrap_err());
    assert!(matches!(error, DatabaseError::Unavailable(_)), "{error:?}");
    drop(connection);
    database.ping().await.unwrap();
}

#[tokio::test]
async fn errors_are_told_apart() {
    let world = World::new().await;
    let database = world.database(|settings| settings.database_statement_timeout_ms = 500);
    let mut connection = database.connection().await.unwrap();
    let error = DatabaseError::from(connection.batch_execute("SELECT pg_sleep(3600)").await.unwrap_err());
    assert!(matches!(error, DatabaseError::Unavailable(_)), "a statement that took too long: {error:?}");
    drop(connection);
    let mut connection = database.connection().await.unwrap();
    let error = DatabaseError::from(connection.batch_execute("SELECT nonsense").await.unwrap_err());
    assert!(matches!(error, DatabaseError::Query(_)), "a mistake in a statement: {error:?}");
    assert!(matches!(DatabaseError::from(QueryError::NotFound), DatabaseError::Query(_)));
    let limits =
        "SELECT current_setting('statement_timeout') || ' ' || current_setting('idle_in_transaction_session_timeout')";
    connection.batch_execute(&format!("SELECT 1 / ({limits} = '500ms 500ms')::integer")).await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_away_or_silent_is_unavailable() {
    let world = World::new().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    let url = format!("postgres://somebody:secret-word@{address}/anything");
    let mut settings = DatabaseSettings::for_url(url.as_str());
    settings.database_connect_timeout_ms = 50;
    let runtime = world.stand.runtime().clone();
    let database = Database::new(&settings, runtime).unwrap();
    let error = database.ping().await.unwrap_err();
    assert!(matches!(error, DatabaseError::Unavailable(_)), "it takes the connection and says nothing: {error:?}");
    // Bound but not listening, so no other process can take the port.
    let deaf = tokio::net::TcpSocket::new_v4().unwrap();
    deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("postgres://somebody:secret-word@{}/anything", deaf.local_addr().unwrap());
    let settings = DatabaseSettings::for_url(url.as_str());
    let database = Database::new(&settings, world.stand.runtime().clone()).unwrap();
    let error = database.ping().await.unwrap_err();
    assert!(matches!(error, DatabaseError::Unavailable(_)), "nobody listens: {error:?}");
    assert!(!format!("{error:?} {settings:?} {database:?}").contains("secret-word"));
}

#[tokio::test]
async fn a_connection_opened_by_a_runtime_that_ends_lives_on() {
    let world = World::new().await;
    let database = world.database(|settings| settings.database_pool_size = 1);
    let opened = database.clone();
    std::thread::spawn(move || {
        let worker = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        worker
            .block_on(async { opened.connection().await.unwrap().batch_execute("SET application_name = 'kept'").await })
    })
    .join()
    .unwrap()
    .unwrap();
    let mut connection = database.connection().await.unwrap();
    let kept = "SELECT 1 / (current_setting('application_name') = 'kept')::integer";
    connection.batch_execute(kept).await.expect("it is the same connection");
}

#[test]
fn settings_that_cannot_work_are_refused_in_words() {
    let like_this = "postgres://user:password@host:5432/database";
    for (url, said) in [
        ("postgres://u:secret-word@host:port/db", like_this),
        ("postgres://u:secret-word@/db", like_this),
        ("postgres://u:secret@word@host/db?secret-word=x", "%40"),
        ("postgres://u:secret@word?secret-word=x@host/db", "%40"),
        ("postgres+tls://u:secret-word@host/db?x=y", like_this),
        ("mysql://u:secret-word@host/db", like_this),
        ("host=host user=u password=secret-word", like_this),
        ("secret-word", like_this),
        ("", like_this),
        ("postgres://u:secret-word@host/db?sslcert=x", "unknown option `sslcert`"),
        ("postgres://u:secret-word@host/db?sslmode=verify-ca", "set sslmode=verify-full"),
        ("postgres://u:secret-word@host/db?sslmode=allow", "set sslmode=prefer"),
        ("postgres://u:secret-word@host/db?sslmode=", "set disable, prefer, require or verify-full"),
        ("postgres://u:secret-word@host/db?sslmode=verify%2Dnothing", "unknown sslmode=verify-nothing"),
        ("postgres://u:secret-word@host/db?sslmode=require&sslrootcert=x", "leave sslrootcert out"),
        ("postgres://u:secret-word@host/db?sslrootcert=system", "leave sslrootcert out"),
        ("postgres://u:secret-word@host/db?sslmode=verify-full&sslrootcert=/no/where", "/no/where"),
        ("postgres://u:secret-word@host/db?sslmode=verify-full&sslrootcert=Cargo.toml", "PEM file"),
    ] {
        let mut settings = DatabaseSettings::for_url("postgres://host/db");
        settings.check().unwrap();
        settings.database_url = SecretString::from(url);
        let error = settings.check().unwrap_err();
        let text = format!("{error}");
        assert!(text.contains("DATABASE_URL") && text.contains(said), "{url}: {text}");
        assert!(!format!("{error:?} {text}").contains("secret-word"), "{text}");
    }
}
