//! The database's clock sets and checks the end of a ticket, even if the server's clock differs.

use chrono::{DateTime, Utc};
use upload_sandbox::{Sandbox, Stand, samples::jpeg_of_exactly};

use crate::rig::{Rig, until};

/// A stand whose database's clock is this many seconds ahead: its own functions replace those of Postgres.
async fn stand_whose_database_is_ahead(seconds: i64) -> Stand {
    let stand = Sandbox::shared().await.stand().await;
    let sql = format!(
        "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql
             AS 'SELECT pg_catalog.clock_timestamp() + make_interval(secs => {seconds})';
         CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE sql STABLE
             AS 'SELECT pg_catalog.now() + make_interval(secs => {seconds})';
         ALTER TABLE image ALTER created_at SET DEFAULT public.now();
         DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$"
    );
    stand.sql(&sql).await.unwrap();
    stand
}

#[tokio::test]
async fn a_ticket_that_only_the_servers_own_clock_takes_for_expired_is_good() {
    let rig = Rig::on(stand_whose_database_is_ahead(-20).await, &[("FORM_TTL", "15")]).await;
    let created = rig.create().await;
    let expires_at: DateTime<Utc> = created.form()["expiresAt"].as_str().unwrap().parse().unwrap();
    assert!(expires_at < Utc::now(), "{expires_at}");
    let file = jpeg_of_exactly(10_000, 1);
    rig.client().upload(created.form(), file.clone()).await.unwrap().expect_status(201).unwrap();
    assert!(rig.only_object().await == file);
}

#[tokio::test]
async fn a_ticket_that_only_the_servers_own_clock_takes_for_good_has_expired() {
    let rig = Rig::on(stand_whose_database_is_ahead(20).await, &[("FORM_TTL", "2")]).await;
    let created = rig.create().await;
    let expires_at: DateTime<Utc> = created.form()["expiresAt"].as_str().unwrap().parse().unwrap();
    // Each try is a new upload. Uploads before the end of the ticket succeed.
    until(async || {
        let uploaded = rig.client().upload(created.form(), jpeg_of_exactly(10_000, 1)).await.unwrap();
        uploaded.status != 201 && {
            assert_eq!(uploaded.refusal(), (403, "form_expired"));
            true
        }
    })
    .await;
    assert!(Utc::now() < expires_at, "{expires_at} is in the future by the server's own clock");
}
