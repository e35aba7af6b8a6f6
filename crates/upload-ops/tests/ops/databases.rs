//! `migrate` and `user add`.

use upload_domain::{Role, UserId, UserStatus};
use upload_persistence::{migrations, users};

use crate::world::{answer, assert_refused, ops, stand};

#[tokio::test]
async fn migrate_says_what_it_applied() {
    let stand = stand().await;
    assert_eq!(answer(&stand, "migrate").await, "nothing to apply: the database has every migration");
    let mut reverted = migrations::revert_all(&stand.database_settings).await.unwrap();
    reverted.reverse();
    let applied = answer(&stand, "migrate").await;
    assert_eq!(applied, reverted.iter().map(|version| format!("applied {version}")).collect::<Vec<_>>().join("\n"));
    assert_eq!(stand.count("image").await.unwrap(), 0);
}

#[tokio::test]
async fn a_database_that_is_away_is_a_failure() {
    let stand = stand().await;
    // Bound and never listened on: nobody else gets the port, and it refuses.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    for arguments in ["migrate", "user add --role USER", "sweep --once"] {
        let url = format!("postgres://somebody:secret-word@{address}/nothing");
        let finished = ops(&stand, arguments).env("DATABASE_URL", url).run().await.unwrap();
        assert_refused(&finished, 1, &["refused"]);
        assert!(!finished.stderr.contains("secret-word"));
    }
}

#[tokio::test]
async fn user_add_prints_the_id_of_an_active_user() {
    let stand = stand().await;
    for role in Role::ALL.iter().copied() {
        let printed =
            answer(&stand, &format!("user add --role {role} --nickname Helio --email helio@example.org")).await;
        let id: UserId = printed.parse().unwrap();
        let mut connection = stand.database.connection().await.unwrap();
        let user = users::find(&mut connection, id).await.unwrap().unwrap();
        assert_eq!((user.role, user.status), (role, UserStatus::Active));
        assert_eq!((user.nickname.as_deref(), user.email.as_deref()), (Some("Helio"), Some("helio@example.org")));
    }
}
