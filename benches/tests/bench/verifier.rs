//! The check after a round, on a real store and a real Postgres: rows and objects as a round leaves them, with one fault.

use bytes::Bytes;
use upload_bench::{
    payload::Payload,
    record::Target,
    verify::{Told, verify},
};
use upload_domain::Role;
use upload_sandbox::{Sandbox, Stand};
use uuid::Uuid;

const IMAGES: u64 = 3;

/// A linked image, with its row, its link and its object.
struct Linked {
    id: String,
    key: String,
}

struct Run {
    stand: Stand,
    payload: Payload,
    linked: Vec<Linked>,
}

impl Run {
    async fn of_linked_images() -> Self {
        let stand = Sandbox::shared().await.stand().await;
        let mut run = Self { stand, payload: Payload::jpeg(20_000, 1), linked: Vec::new() };
        for _image in 0..IMAGES {
            let linked = run.link().await;
            run.stand.admin.put(&linked.key, "image/jpeg", run.payload.file.clone()).await.unwrap();
            run.linked.push(linked);
        }
        run
    }

    async fn link(&self) -> Linked {
        let id = Uuid::now_v7().to_string();
        let key = format!("media/{id}/{}", Uuid::now_v7());
        let bytes = self.payload.file.len();
        let user = self.stand.add_person(Role::User).await.unwrap().id;
        let sql = format!(
            "INSERT INTO image (id, path, format, user_id, linked_at, byte_size, media_key, media_byte_size, width, height) \
             VALUES ('{id}', 'user-profile', 'image/jpeg', '{user}', now(), {bytes}, '{key}', {bytes}, 64, 48); \
             INSERT INTO user_profile_image (user_id, image_id) VALUES ('{user}', '{id}')"
        );
        self.stand.sql(&sql).await.unwrap();
        Linked { id, key }
    }

    async fn finding(&self) -> Result<(u64, Option<u64>, u64), String> {
        self.finding_with_undecided(0).await
    }

    async fn finding_with_undecided(&self, undecided: u64) -> Result<(u64, Option<u64>, u64), String> {
        let told = Told { undecided, ..told(self.linked.iter().map(|image| image.id.clone())) };
        let found = verify(&self.stand, Target::V2Post, &told, &self.payload).await.unwrap();
        found.map(|verified| (verified.objects, verified.rows, verified.checksums))
    }
}

fn told(successes: impl IntoIterator<Item = String>) -> Told {
    Told { successes: successes.into_iter().collect(), undecided: 0, images: IMAGES }
}

#[tokio::test]
async fn a_round_that_left_what_its_clients_saw_is_verified() {
    let run = Run::of_linked_images().await;
    assert_eq!(run.finding().await, Ok((IMAGES, Some(IMAGES), IMAGES)));
}

#[tokio::test]
async fn a_missing_object_is_found() {
    let run = Run::of_linked_images().await;
    run.stand.admin.delete(&run.linked[1].key).await.unwrap();
    assert_eq!(run.finding().await, Err("3 successes, but 2 objects".to_owned()));
}

#[tokio::test]
async fn a_short_object_is_found() {
    let run = Run::of_linked_images().await;
    let key = &run.linked[1].key;
    run.stand.admin.put(key, "image/jpeg", run.payload.file.slice(..19_999)).await.unwrap();
    assert_eq!(run.finding().await, Err(format!("{key} has 19999 bytes, not 20000")));
}

#[tokio::test]
async fn an_object_with_other_bytes_is_found() {
    let run = Run::of_linked_images().await;
    let key = &run.linked[1].key;
    run.stand.admin.put(key, "image/jpeg", Payload::jpeg(20_000, 2).file).await.unwrap();
    assert_eq!(run.finding().await, Err(format!("{key} does not hold the bytes that were sent")));
}

#[tokio::test]
async fn an_object_that_no_client_knows_is_found() {
    let run = Run::of_linked_images().await;
    let stray = format!("media/{}/{}", Uuid::now_v7(), Uuid::now_v7());
    run.stand.admin.delete(&run.linked[1].key).await.unwrap();
    run.stand.admin.put(&stray, "image/jpeg", run.payload.file.clone()).await.unwrap();
    assert_eq!(run.finding().await, Err(format!("{stray} belongs to no image that a client saw")));
}

#[tokio::test]
async fn an_extra_row_is_found() {
    let run = Run::of_linked_images().await;
    let extra = run.link().await;
    assert_eq!(run.finding().await, Err("3 successes, but 4 rows".to_owned()));
    assert_ne!(extra.id, run.linked[0].id);
}

#[tokio::test]
async fn a_row_without_its_link_is_found() {
    let run = Run::of_linked_images().await;
    let id = &run.linked[1].id;
    run.stand.sql(&format!("DELETE FROM user_profile_image WHERE image_id = '{id}'")).await.unwrap();
    assert_eq!(run.finding().await, Err("3 successes, but 2 rows".to_owned()));
}

#[tokio::test]
async fn objects_without_rows_are_counted_for_the_bare_store() {
    let stand = Sandbox::shared().await.stand().await;
    let payload = Payload::jpeg(20_000, 1);
    let key = format!("incoming/{}", Uuid::now_v7());
    stand.admin.put(&key, "image/jpeg", payload.file.clone()).await.unwrap();
    let told = told([key.clone()]);
    let verified = verify(&stand, Target::Direct, &told, &payload).await.unwrap().unwrap();
    assert_eq!((verified.objects, verified.rows, verified.checksums), (1, None, 1));
    stand.admin.put(&key, "image/jpeg", Bytes::new()).await.unwrap();
    let found = verify(&stand, Target::Direct, &told, &payload).await.unwrap();
    assert_eq!(found, Err(format!("{key} has 0 bytes, not 20000")));
}

#[tokio::test]
async fn an_image_that_succeeds_twice_is_found() {
    let run = Run::of_linked_images().await;
    let told = told([0, 0, 1].map(|index: usize| run.linked[index].id.clone()));
    let found = verify(&run.stand, Target::V2Post, &told, &run.payload).await.unwrap();
    assert_eq!(found, Err("3 successes name only 2 images".to_owned()));
}

#[tokio::test]
async fn an_image_whose_client_had_no_answer_may_be_there_or_not() {
    let mut run = Run::of_linked_images().await;
    assert_eq!(run.finding_with_undecided(1).await, Ok((IMAGES, Some(IMAGES), IMAGES)));
    let unknown = run.linked.pop().unwrap();
    assert_eq!(run.finding_with_undecided(1).await, Ok((IMAGES, Some(IMAGES), IMAGES)));
    let second = run.linked.pop().unwrap();
    assert_eq!(
        run.finding_with_undecided(1).await,
        Err("1 successes and 1 that may have been stored, but 3 objects".to_owned())
    );
    // The number fits, but the object of a success is missing.
    run.stand.admin.delete(&run.linked[0].key).await.unwrap();
    let told = run.finding_with_undecided(1).await.unwrap_err();
    let is_told_of = |image: &Linked| told == format!("{} belongs to no image that a client saw", image.key);
    assert!(is_told_of(&unknown) || is_told_of(&second), "{told}");
}
