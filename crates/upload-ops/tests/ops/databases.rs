//! `migrate` and `user add`.

use upload_domain::{Role, UserId, UserStatus};
use upload_persistence::{migrations, users};

use crate::world::{answer, stand};

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
