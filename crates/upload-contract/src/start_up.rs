//! The conditions that a server checks before it takes a request, and its messages if one does not hold. Also the clocks, which may go
//! wrong later.
//!
//! To set a store's clock wrong, a relay changes the `Date` of its answers. For the database's clock, functions of the same names come
//! first on its search path.

use anyhow::{Context as _, Result, ensure};
use upload_sandbox::{Stand, relay::Relay};

use super::{
    bad_input::{
        SIGNER, Wilderness, Wrong, assert_each_is_refused, may_not_delete, may_too_much, missing, with_key, with_token,
        wrong,
    },
    service::{loop_until, not_ok, until_ready_says},
    subject::{Strategy, Subject, text},
};

/// Sets `clock_timestamp()`, `now()` and the time of a new image ahead by the interval in the table, in every new session.
const CLOCK: &str = "
    CREATE TABLE clock (ahead interval NOT NULL);
    INSERT INTO clock VALUES ('0 s');
    CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql
        AS 'SELECT pg_catalog.clock_timestamp() + ahead FROM public.clock';
    CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE sql STABLE
        AS 'SELECT pg_catalog.now() + ahead FROM public.clock';
    ALTER TABLE image ALTER created_at SET DEFAULT public.now();
    DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$";

pub(super) async fn bad_input_is_refused_in_one_sentence(subject: &mut Subject) -> Result<()> {
    let (stand, wilderness) = (&subject.stand, Wilderness::new(&subject.stand).await?);
    let own = match subject.strategy {
        Strategy::Streaming => of_v1(),
        Strategy::Presigned => of_v2(stand),
    };
    let table = [
        wilderness.servers(stand),
        wilderness.databases(stand)?,
        vec![wilderness.empty_database(stand)?],
        wilderness.stores(stand),
        Vec::from_iter(may_not_delete(stand)?),
        own,
    ];
    assert_each_is_refused(&subject.program(), table.into_iter().flatten()).await;
    Ok(())
}

fn of_v1() -> Vec<Wrong> {
    vec![
        missing("TICKET_SECRET"),
        wrong("TICKET_SECRET", "secret-word", &["at least 32"]),
        wrong("TICKET_SECRET", "", &["must be set"]),
        wrong("UPLOADS_ACTIVE", "0", &["`0`"]),
        wrong("UPLOADS_WAITING", "many", &["`many`", "a whole number"]),
        wrong("UPLOADS_WAIT_SECONDS", "1h", &["`1h`", "a whole number"]),
        wrong("BUFFER_BUDGET_BYTES", "1000000", &["MAX_IMAGE_BYTES"]),
        wrong("CLIENT_RATE_WINDOW_SECONDS", "0", &["`0`"]),
        wrong("STORAGE_STALL_SECONDS", "18446744073709551615", &["3600"]),
    ]
}

fn of_v2(stand: &Stand) -> Vec<Wrong> {
    let [_server, (_, signer), (_, reader)] = stand.keys();
    let mut own = vec![
        missing("S3_SIGNER_ACCESS_KEY_ID"),
        missing("S3_SIGNER_SECRET_ACCESS_KEY"),
        wrong("S3_SIGNER_SECRET_ACCESS_KEY", "secret-word", &["correct the secret"]).naming("S3_SIGNER_ACCESS_KEY_ID"),
        wrong("S3_SIGNER_ACCESS_KEY_ID", "nobody0123456789abcdef", &["does not know the signer's key"]),
        wrong("S3_ACCESS_KEY_ID", &signer.id, &["S3_SIGNER_ACCESS_KEY_ID", "different"]),
        wrong("S3_READER_ACCESS_KEY_ID", &signer.id, &["S3_SIGNER_ACCESS_KEY_ID", "different"]),
        // Has too few rights.
        with_key(SIGNER, &reader, &["lacks the right to put incoming/*"]).with("S3_ALLOW_ONE_KEY", "true"),
    ];
    own.extend(with_token(stand, SIGNER));
    own.extend(may_too_much(stand, SIGNER));
    own
}

pub(super) async fn an_address_that_cannot_be_had_is_a_failure(subject: &mut Subject) -> Result<()> {
    let in_use = subject.url().strip_prefix("http://").context("a URL")?.to_owned();
    // The second address belongs to no machine (RFC 5737).
    for (address, says) in
        [(in_use.as_str(), "stop the program that listens there"), ("192.0.2.1:80", "an address of this machine")]
    {
        let ended = subject.program().env("BIND_ADDRESS", address).run().await?;
        ensure!(ended.code == Some(1) && ended.stdout.is_empty(), "{ended:?}");
        ensure!(ended.stderr.lines().count() == 1, "{ended:?}");
        ensure!(["BIND_ADDRESS", address, says].iter().all(|word| ended.stderr.contains(word)), "{ended:?}");
    }
    Ok(())
}

pub(super) async fn a_schema_that_is_not_the_binarys_is_refused(subject: &mut Subject) -> Result<()> {
    let table = "__diesel_schema_migrations";
    let newest = subject.value(&format!("SELECT max(version) FROM {table}")).await?.context("a version")?;
    let bring = [
        (
            format!("INSERT INTO {table} (version) VALUES ('99991231000000')"),
            ["99991231000000", "older than the database"],
        ),
        (
            format!("DELETE FROM {table} WHERE version IN ('{newest}', '99991231000000')"),
            [newest.as_str(), "upload-ops migrate"],
        ),
    ];
    for (sql, says) in bring {
        subject.stand.sql(&sql).await?;
        subject.refused_at_start(&[], &says).await?;
    }
    subject.stand.sql(&format!("INSERT INTO {table} (version) VALUES ('{newest}')")).await?;
    Ok(())
}

pub(super) async fn a_bucket_that_keeps_no_versions_is_refused(subject: &mut Subject) -> Result<()> {
    let says =
        ["S3_PIN: ", subject.stand.bucket(), "has no versioning", "upload-ops bucket --versioning", "S3_PIN=copy"];
    subject.refused_at_start(&[("S3_PIN", "version")], &says).await
}

pub(super) async fn a_stores_clock_that_is_off_is_noticed(subject: &mut Subject) -> Result<()> {
    let (endpoint, relay) = Relay::before(&subject.stand.environment()["S3_ENDPOINT"]).await?;
    relay.shift_dates(10);
    subject.add_server(&[("S3_ENDPOINT", &endpoint)]).await?;
    let ahead = "the store's clock is";
    // A Date has whole seconds, so the certain difference is between nine and ten.
    let warned =
        |line: &str| line.contains("WARN") && line.contains(ahead) && line.contains(" s ahead of the application's");
    subject.server()?.wait_for_log(warned).await?;
    let client = subject.anybody()?;
    client.get("/health/ready").await?.expect_status(200).context("ten seconds are tolerable")?;

    for (seconds, direction) in [(40, "ahead of"), (-40, "behind")] {
        relay.shift_dates(seconds);
        let expected = format!(" s {direction} the application's and the database's");
        let ready = loop_until(&client, |ready| text(&ready.json["checks"]["clocks"]).ends_with(&expected)).await?;
        let ready = ready.expect_status(503)?;
        assert_eq!(not_ok(&ready), ["clocks"], "{}", ready.json);
        client.get("/health/live").await?.expect_status(200)?;
        subject.refused_at_start(&[("S3_ENDPOINT", &endpoint)], &[ahead, &expected, "NTP", "S3_ENDPOINT"]).await?;
    }
    relay.shift_dates(0);
    until_ready_says(&client, 200).await.context("it recovers by itself")?;
    subject.server()?.wait_for_log(|line| line.contains("the clocks agree again")).await?;
    subject.errors_expected = true;
    Ok(())
}

pub(super) async fn a_databases_clock_that_is_off_is_noticed(subject: &mut Subject) -> Result<()> {
    subject.stand.sql(CLOCK).await?;
    subject.set_databases_clock(-10).await?;
    subject.add_server(&[]).await?;
    let warned = "the database's clock is 10 s behind the application's and the store's";
    subject.server()?.wait_for_log(|line| line.contains("WARN") && line.contains(warned)).await?;
    let client = subject.anybody()?;
    client.get("/health/ready").await?.expect_status(200).context("ten seconds are tolerable")?;

    subject.set_databases_clock(40).await?;
    let ready = until_ready_says(&client, 503).await?;
    let expected = "the database's clock is 40 s ahead of the application's and the store's";
    assert_eq!(ready.json["checks"]["clocks"], expected);
    assert_eq!(not_ok(&ready), ["clocks"], "{}", ready.json);
    subject.refused_at_start(&[], &[expected, "NTP", "DATABASE_URL"]).await?;
    subject.set_databases_clock(0).await?;
    until_ready_says(&client, 200).await.context("it recovers by itself")?;
    subject.errors_expected = true;
    Ok(())
}

impl Subject {
    async fn set_databases_clock(&self, seconds: i64) -> Result<()> {
        self.stand.sql(&format!("UPDATE clock SET ahead = make_interval(secs => {seconds})")).await?;
        Ok(())
    }

    /// Asserts that another server does not start, and says why in one line.
    pub(super) async fn refused_at_start(&self, variables: &[(&str, &str)], says: &[&str]) -> Result<()> {
        let program = variables.iter().fold(self.program(), |program, (name, value)| program.env(*name, *value));
        let ended = program.run().await?;
        ensure!(ended.code == Some(2) && ended.stdout.is_empty(), "{ended:?}");
        ensure!(ended.stderr.lines().count() == 1, "{ended:?}");
        ensure!(says.iter().all(|word| ended.stderr.contains(word)), "{says:?} is not in {ended:?}");
        Ok(())
    }
}
