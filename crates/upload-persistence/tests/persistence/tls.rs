//! Each `sslmode` with servers of every kind. The server tells whether a connection is encrypted.

use std::fs;

use diesel::{QueryableByName, sql_types::Bool};
use diesel_async::RunQueryDsl;
use tokio::{runtime::Handle, task::spawn_blocking};
use upload_persistence::{
    Database, DatabaseError, DatabaseSettings, databases,
    migrations::{self, SchemaStanding},
};
use upload_sandbox::{
    Sandbox,
    postgres::{Certificate, Cluster, PLAIN_ONLY, TLS_ONLY},
};

use crate::world::migrations_in_the_folder;

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Bool)]
    yes: bool,
}

/// The expected outcome of a connection.
enum Outcome<'a> {
    Encrypted,
    Plain,
    /// With a sentence that contains each of these.
    Refused(&'a [&'a str]),
}

const IS_ENCRYPTED: &str = "SELECT ssl AS yes FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
const KNOWS_DIRECT_TLS: &str = "SELECT current_setting('server_version_num')::integer >= 170000 AS yes";

async fn ask(settings: &DatabaseSettings, question: &str) -> Result<bool, DatabaseError> {
    let database = Database::new(settings, Handle::current()).unwrap();
    let mut connection = database.connection().await?;
    Ok(diesel::sql_query(question).get_result::<Answer>(&mut *connection).await?.yes)
}

async fn assert_outcome(url: &str, outcome: Outcome<'_>) {
    let (_, password) = url.split_once('@').unwrap().0.rsplit_once(':').unwrap();
    let settings = DatabaseSettings::for_url(url);
    let case = url.replace(password, "…");
    match (ask(&settings, IS_ENCRYPTED).await, outcome) {
        (Ok(true), Outcome::Encrypted) | (Ok(false), Outcome::Plain) => {}
        (Ok(encrypted), _) => panic!("{case}: connected, encrypted: {encrypted}"),
        (Err(error), Outcome::Refused(said)) => {
            assert!(matches!(error, DatabaseError::Unavailable(_)), "{case}: {error:?}");
            let advice = error.advice();
            for said in ["DATABASE_URL"].iter().chain(said) {
                assert!(advice.contains(said), "{case}: `{said}` is not in: {advice}");
            }
            assert!(!format!("{advice} {error:?}").contains(password), "{case}");
        }
        (Err(error), _) => panic!("{case}: {}", error.advice()),
    }
}

/// The cluster's URL, with another database and parameters.
fn url(cluster: &Cluster, database: &str, parameters: &str) -> String {
    let (server, _) = cluster.admin_url().rsplit_once('/').unwrap();
    format!("{server}/{database}?{parameters}")
}

/// The same, with another name for the host.
fn url_by(name: &str, cluster: &Cluster, parameters: &str) -> String {
    url(cluster, "postgres", parameters).replace("@127.0.0.1:", &format!("@{name}:"))
}

#[tokio::test]
async fn each_sslmode_connects_or_refuses_as_it_promises() {
    let good = spawn_blocking(|| Cluster::start_with_tls(Certificate::Good).unwrap());
    let expired = spawn_blocking(|| Cluster::start_with_tls(Certificate::Expired).unwrap());
    let (good, expired) = (good.await.unwrap(), expired.await.unwrap());
    let trusted = |cluster: &Cluster| format!("sslmode=verify-full&sslrootcert={}", cluster.authority().display());
    let (trusts_good, trusts_expired) = (trusted(&good), trusted(&expired));

    use Outcome::{Encrypted, Plain, Refused};
    assert_outcome(&url(&good, "postgres", "sslmode=disable"), Plain).await;
    assert_outcome(&url(&good, "postgres", ""), Encrypted).await;
    assert_outcome(&url(&good, "postgres", "sslmode=prefer"), Encrypted).await;
    assert_outcome(&url(&good, "postgres", "sslmode=require"), Encrypted).await;
    assert_outcome(&url(&good, "postgres", &trusts_good), Encrypted).await;
    assert_outcome(&url_by("localhost", &good, &trusts_good), Encrypted).await;
    let encoded = "ssl%6Dode=verify%2Dfull&application_name=x&sslrootcert=";
    fs::copy(good.authority(), good.folder().join("other & same.pem")).unwrap();
    let encoded = format!("{encoded}{}/other%20%26%20same.pem", good.folder().display());
    assert_outcome(&url(&good, "postgres", &encoded), Encrypted).await;

    let unknown = Refused(&["127.0.0.1:", "authority", "sslmode=verify-full without sslrootcert", "set sslrootcert"]);
    assert_outcome(&url(&good, "postgres", "sslmode=verify-full"), unknown).await;
    let unknown = Refused(&["127.0.0.1:", "authority", "authority.pem", "put the certificate"]);
    assert_outcome(&url(&good, "postgres", &trusts_expired), unknown).await;
    let other_name = Refused(&["db.example:", "is for localhost, 127.0.0.1 and not for db.example", "sslrootcert="]);
    assert_outcome(&url_by("db.example", &good, &format!("{trusts_good}&hostaddr=127.0.0.1")), other_name).await;
    let wrong = url(&good, "postgres", &trusts_good).replace("sandbox:", "sandbox:not-");
    assert_outcome(&wrong, Refused(&["correct the user and the password"])).await;

    let modern = ask(&DatabaseSettings::for_url(good.admin_url()), KNOWS_DIRECT_TLS).await.unwrap();
    let direct =
        if modern { Encrypted } else { Refused(&["127.0.0.1:", "fails (", "TLS 1.2 or later", "sslnegotiation"]) };
    assert_outcome(&url(&good, "postgres", &format!("{trusts_good}&sslnegotiation=direct")), direct).await;

    assert_outcome(&url(&expired, "postgres", "sslmode=prefer"), Encrypted).await;
    assert_outcome(&url(&expired, "postgres", "sslmode=require"), Encrypted).await;
    let old = Refused(&["127.0.0.1:", "expired on 2001-01-01", "renew it on the server", "sslrootcert="]);
    assert_outcome(&url(&expired, "postgres", &trusts_expired), old).await;

    databases::create(&url(&good, "postgres", &trusts_good), TLS_ONLY, None).await.unwrap();
    let demanded = Refused(&["no encryption", "set the sslmode that its pg_hba.conf asks for (verify-full and"]);
    assert_outcome(&url(&good, TLS_ONLY, "sslmode=disable"), demanded).await;
    assert_outcome(&url(&good, TLS_ONLY, "sslmode=prefer"), Encrypted).await;
    assert_outcome(&url(&good, TLS_ONLY, &format!("{trusts_good}&channel_binding=require")), Encrypted).await;
    databases::create(&url(&good, "postgres", "sslmode=require"), PLAIN_ONLY, None).await.unwrap();
    assert_outcome(&url(&good, PLAIN_ONLY, "sslmode=disable"), Plain).await;
    assert_outcome(&url(&good, PLAIN_ONLY, "sslmode=prefer"), Plain).await;
    assert_outcome(&url(&good, PLAIN_ONLY, "sslmode=require"), Refused(&["SSL encryption", "set the sslmode"])).await;

    let sandbox = Sandbox::shared().await;
    let own = match sandbox.cluster() {
        Some(_) => None,
        None => Some(spawn_blocking(|| Cluster::start().unwrap()).await.unwrap()),
    };
    let without = sandbox.cluster().or(own.as_ref()).unwrap();
    assert_outcome(&url(without, "postgres", "sslmode=disable"), Plain).await;
    assert_outcome(&url(without, "postgres", ""), Plain).await;
    assert_outcome(&url(without, "postgres", "sslmode=prefer"), Plain).await;
    for parameters in ["sslmode=require", &trusts_good] {
        let silent = Refused(&["127.0.0.1:", parameters.split('&').next().unwrap(), "does not speak TLS", "ssl = on"]);
        assert_outcome(&url(without, "postgres", parameters), silent).await;
    }

    // Migrations, and creating and removing databases, use the same kind of connection.
    let settings = DatabaseSettings::for_url(url(&good, TLS_ONLY, &trusts_good));
    assert_eq!(migrations::run(&settings).await.unwrap().len(), migrations_in_the_folder());
    let database = Database::new(&settings, Handle::current()).unwrap();
    assert_eq!(migrations::standing(&database).await.unwrap(), SchemaStanding::Current);
    let mistrusting = DatabaseSettings::for_url(url(&good, TLS_ONLY, &trusts_expired));
    let error = migrations::run(&mistrusting).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.starts_with("DATABASE_URL (sslmode=verify-full") && cause.contains("authority"), "{cause}");
    databases::drop_with_force(&url(&good, "postgres", &trusts_good), TLS_ONLY).await.unwrap();
    databases::drop_with_force(&url(&good, "postgres", &trusts_expired), PLAIN_ONLY).await.unwrap_err();
}
