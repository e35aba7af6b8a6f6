//! One unchanged client works with both servers, and across them: it uploads through one, and links and reads through the other.

use upload_demo::{Machine, ServerName};
use upload_domain::{ImageFormat, ImagePath};
use upload_sandbox::{Sandbox, samples};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_server_links_and_serves_what_the_other_received() {
    let machine = Machine::on(Sandbox::start().await.unwrap()).await.unwrap();
    let (caller, stand) = (machine.user().unwrap(), machine.stand());
    let mut seed = 0;
    for uploaded in ServerName::ALL {
        for linked in ServerName::ALL {
            seed += 1;
            let file = samples::jpeg_of_exactly(400_000, seed);
            let there = caller.at(machine.url(linked));
            let other = ServerName::ALL.into_iter().find(|name| *name != linked).unwrap();
            let elsewhere = caller.at(machine.url(other));

            let at_upload = caller.at(machine.url(uploaded));
            let image =
                at_upload.create_and_upload(ImagePath::UserProfile, ImageFormat::Jpeg, file.clone()).await.unwrap();
            assert_eq!(elsewhere.read(&image).await.unwrap().refusal(), (404, "image_not_found"), "not linked yet");
            let first = there.link_profile(&image).await.unwrap().expect_status(201).unwrap();
            let again = elsewhere.link_profile(&image).await.unwrap().expect_status(200).unwrap();
            assert_eq!(first.json, again.json, "the other server knows of the link");

            for reader in [&there, &elsewhere] {
                let read = reader.download(&image).await.unwrap().expect_status(200).unwrap();
                assert_eq!(read.body, file, "uploaded through {uploaded:?}, linked through {linked:?}");
                assert_eq!(read.header("content-type"), "image/jpeg");
                let me = reader.me().await.unwrap().expect_status(200).unwrap();
                assert_eq!(me.json["user"]["profileImages"][0]["imageEntity"]["id"], image.as_str());
            }

            machine.wait_for_background().await.unwrap();
            let sql = format!("SELECT media_key, linked_at, attempt, byte_size FROM image WHERE id = '{image}'");
            let row = stand.sql(&sql).await.unwrap().remove(0);
            let key = row[0].as_deref().unwrap();
            assert!(key.starts_with(&format!("media/{image}/")) && row[1].is_some(), "{row:?}");
            assert_eq!((row[2].as_deref(), row[3].as_deref()), (None, Some("400000")));
            assert_eq!(stand.storage.size(key).await.unwrap(), Some(400_000));
            assert_eq!(stand.storage.list(&format!("media/{image}/")).await.unwrap(), [key]);
        }
    }
    assert_eq!(
        stand.storage.list("incoming/").await.unwrap(),
        Vec::<String>::new(),
        "nothing stays where clients may write"
    );
    assert_eq!(stand.count("user_profile_image WHERE deleted_at IS NULL").await.unwrap(), 1);
    drop(caller);
    machine.stop().await.unwrap();
}
