//! What V1 leaves behind when its client, its store or its database fails: status, code, row and object.

use upload_domain::{ImageFormat, ImagePath};
use upload_sandbox::{
    client::Answer,
    raw::RawForm,
    relay::Mode,
    samples::{HTML, jpeg_of_exactly},
};

use crate::rig::{FILE_BYTES, Half, Rig, STREAM, until};

#[tokio::test]
async fn a_client_that_vanishes_leaves_no_object_and_a_row_that_can_be_used_again() {
    let rig = Rig::start(&[]).await;
    for sent_bytes in [0, 1, 1_000_000, FILE_BYTES - 1, FILE_BYTES] {
        let created = rig.create().await;
        let file = jpeg_of_exactly(FILE_BYTES, 2);
        let form = RawForm::of_ticket(created.form()).unwrap();
        let mut upload =
            form.begin(&rig.server.url, &RawForm::target(created.form()).unwrap(), "", file.len()).await.unwrap();
        upload.send(&file[..sent_bytes]).await;
        until(async || rig.stand.count("image WHERE attempt IS NOT NULL").await.unwrap() == 1).await;
        // The form's end is never sent.
        drop(upload);
        // When a client disconnects, actix ends the body early or drops the handler.
        let gone = |line: &str| line.contains("incomplete_body") || line.contains("client_disconnected");
        rig.server.wait_for_log(|line| gone(line) && line.contains(created.image_id())).await.unwrap();
        until(async || rig.stand.count("image WHERE attempt IS NOT NULL").await.unwrap() == 0).await;
        rig.assert_nothing_stored().await;
        let linked = rig.client().link_profile(created.image_id()).await.unwrap();
        assert_eq!(linked.refusal(), (409, "not_uploaded"), "{sent_bytes}");
        let again = rig.client().upload(created.form(), file).await.unwrap();
        assert_eq!(again.status, 201, "{sent_bytes}");
        rig.stand.storage.delete_many(&rig.keys().await).await.unwrap();
        rig.stand.sql("DELETE FROM image").await.unwrap();
    }
}

/// The defaults of the settings with these names, which a stand switches off.
const QUOTAS: [(&str, &str); 2] = [("MAX_PENDING_IMAGES", "20"), ("MAX_BYTES_PER_DAY", "1073741824")];

#[tokio::test]
async fn uploads_by_the_stream_route_that_break_take_no_place_of_their_user() {
    let rig = Rig::start(&QUOTAS).await;
    let file = jpeg_of_exactly(FILE_BYTES, 11);
    for _upload in 0..21 {
        let mut upload =
            RawForm::of_profile_image().begin(&rig.server.url, STREAM, &rig.person.token, file.len()).await.unwrap();
        upload.send(&file[..FILE_BYTES / 2]).await;
        until(async || rig.stand.count("image WHERE attempt IS NOT NULL").await.unwrap() == 1).await;
        drop(upload);
        until(async || rig.stand.count("image WHERE attempt IS NOT NULL").await.unwrap() == 0).await;
    }
    assert_eq!(rig.stand.count("image WHERE deleting_at IS NOT NULL AND refused_code IS NULL").await.unwrap(), 21);
    rig.assert_nothing_stored().await;
    let broken = rig.stand.sql("SELECT id FROM image LIMIT 1").await.unwrap()[0][0].clone().unwrap();
    assert_eq!(rig.client().link_profile(&broken).await.unwrap().refusal(), (410, "image_expired"));
    let stored = rig.client().stream(ImagePath::UserProfile, ImageFormat::Jpeg, file).await.unwrap();
    assert_eq!(stored.status, 201, "{stored:?}");
}

#[tokio::test]
async fn a_file_that_the_stream_route_refuses_takes_no_place_and_a_link_still_says_why() {
    let rig = Rig::start(&QUOTAS).await;
    for _upload in 0..21 {
        let html = rig.client().stream(ImagePath::UserProfile, ImageFormat::Jpeg, HTML.to_vec()).await.unwrap();
        assert_eq!(html.refusal(), (422, "content_mismatch"));
    }
    assert_eq!(rig.stand.count("image WHERE deleting_at IS NOT NULL").await.unwrap(), 21);
    let refused = rig.stand.sql("SELECT id FROM image LIMIT 1").await.unwrap()[0][0].clone().unwrap();
    assert_eq!(rig.client().link_profile(&refused).await.unwrap().refusal(), (422, "content_mismatch"));
}

#[tokio::test]
async fn a_client_that_trickles_is_sent_away() {
    let rig = Rig::start(&[("CLIENT_RATE_WINDOW_SECONDS", "1")]).await;
    let half = Half::sent(&rig).await;
    let answer = half.upload.answer().await.unwrap();
    assert_eq!(answer.refusal(), (408, "upload_timeout"));
    rig.assert_nothing_stored().await;
}

#[tokio::test]
async fn a_body_has_a_deadline_however_steadily_it_comes() {
    let rig = Rig::start(&[("MAX_BODY_TIME", "1")]).await;
    let half = Half::sent(&rig).await;
    assert_eq!(half.upload.answer().await.unwrap().refusal(), (408, "upload_timeout"));
    rig.assert_nothing_stored().await;
}

#[tokio::test]
async fn an_upload_whose_time_was_over_before_its_commit_is_told_so() {
    let rig = Rig::start(&[]).await;
    let half = Half::sent(&rig).await;
    rig.stand.sql("UPDATE image SET attempt_until = now() - interval '1 s'").await.unwrap();
    let (answer, image_id) = half.finish().await;
    assert_eq!(answer.refusal(), (408, "upload_timeout"));
    rig.assert_nothing_stored().await;
    assert_eq!(rig.client().link_profile(&image_id).await.unwrap().refusal(), (409, "not_uploaded"));
}

#[tokio::test]
async fn a_store_that_is_down_is_said_before_the_body_is_read() {
    let rig = Rig::start(&[]).await;
    rig.store.set(Mode::Down);
    let file = jpeg_of_exactly(FILE_BYTES, 3);
    let mut upload =
        RawForm::of_profile_image().begin(&rig.server.url, STREAM, &rig.person.token, file.len()).await.unwrap();
    upload.send(&file[..FILE_BYTES / 2]).await;
    let answer = upload.answer().await.unwrap();
    assert_eq!(answer.refusal(), (503, "storage_unavailable"));
    assert!(!answer.header("retry-after").is_empty() && answer.json["retryable"] == true, "{answer:?}");
    rig.assert_nothing_stored().await;
}

#[tokio::test]
async fn a_store_that_breaks_off_fails_the_upload_and_frees_the_row() {
    let rig = Rig::start(&[]).await;
    let half = Half::sent(&rig).await;
    rig.store.set(Mode::Down);
    // The client gets the answer before it has sent the rest.
    assert_eq!(half.upload.answer().await.unwrap().refusal(), (503, "storage_unavailable"));
    rig.assert_nothing_stored().await;
    rig.store.set(Mode::Pass);
    assert_eq!(rig.client().link_profile(&half.image_id).await.unwrap().refusal(), (409, "not_uploaded"));
}

#[tokio::test]
async fn a_store_that_takes_nothing_is_given_up() {
    // More than all sockets between the client and the store can hold.
    const LONG_FILE_BYTES: usize = 19_000_000;
    let rig = Rig::start(&[("STORAGE_STALL_SECONDS", "1")]).await;
    let file = jpeg_of_exactly(LONG_FILE_BYTES, 6);
    let form = RawForm::of_profile_image();
    let mut upload = form.begin(&rig.server.url, STREAM, &rig.person.token, file.len()).await.unwrap();
    upload.send(&file[..1_000_000]).await;
    rig.store.requested(300_000).await;
    rig.store.set(Mode::HoldRequests);
    upload.send(&file[1_000_000..]).await;
    assert_eq!(upload.finish().await.unwrap().refusal(), (503, "storage_timeout"));
    rig.assert_nothing_stored().await;
}

#[tokio::test]
async fn a_store_whose_answer_is_lost_is_asked_again() {
    let rig = Rig::start(&[]).await;
    let half = Half::sent(&rig).await;
    rig.store.set(Mode::BreakNextAnswer);
    let (answer, image_id) = half.finish().await;
    assert_eq!(answer.status, 201, "the object is there, whatever became of the answer: {answer:?}");
    assert!(answer.header("etag").starts_with('"'), "{answer:?}");
    assert_eq!(rig.client().link_profile(&image_id).await.unwrap().status, 201);
    assert!(rig.client().download(&image_id).await.unwrap().body == jpeg_of_exactly(FILE_BYTES, 1));
}

#[tokio::test]
async fn a_database_whose_answer_is_lost_is_asked_again() {
    let rig = Rig::start(&[]).await;
    // The first upload prepares the statements, so that the next answer is the commit's.
    let created = rig.create().await;
    let small = rig.client().upload(created.form(), jpeg_of_exactly(10_000, 7)).await.unwrap();
    assert_eq!(small.status, 201);
    let half = Half::sent(&rig).await;
    rig.database.set(Mode::BreakNextAnswer);
    let (answer, image_id) = half.finish().await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(rig.client().link_profile(&image_id).await.unwrap().status, 201);
}

#[tokio::test]
async fn a_database_whose_answer_is_lost_after_a_link_took_the_image_tells_of_the_link() {
    let rig = Rig::start(&[]).await;
    let half = Half::sent(&rig).await;
    // Of what the upload still has to say to the database, the media key is in the commit alone.
    rig.database.set(Mode::HoldRequestsWith("media/"));
    let taken = async {
        rig.database.holds(1).await;
        let take = "UPDATE image SET attempt = gen_random_uuid(), attempt_kind = 'link'";
        rig.stand.sql(take).await.unwrap();
        rig.database.set(Mode::BreakNextAnswer);
    };
    let ((answer, _image_id), ()) = tokio::join!(half.finish(), taken);
    assert_eq!(answer.refusal(), (409, "link_in_progress"));
    assert_eq!(rig.keys().await, Vec::<String>::new());
    assert_eq!(rig.stand.count("image WHERE attempt_kind = 'link' AND media_key IS NULL").await.unwrap(), 1);
}

#[tokio::test]
async fn a_database_that_is_down_before_the_file_is_said_before_the_file_is_read() {
    let rig = Rig::start(&[]).await;
    rig.database.set(Mode::Down);
    let upload =
        RawForm::of_profile_image().begin(&rig.server.url, STREAM, &rig.person.token, FILE_BYTES).await.unwrap();
    assert_eq!(upload.answer().await.unwrap().refusal(), (503, "database_unavailable"));
    assert_eq!(rig.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn an_object_that_the_database_cannot_be_told_of_is_deleted() {
    let rig = Rig::start(&[]).await;
    let half = Half::sent(&rig).await;
    rig.database.set(Mode::Down);
    let (answer, image_id) = half.finish().await;
    assert_eq!(answer.refusal(), (503, "database_unavailable"));
    // Nothing was sent to the database, so nothing can have been committed.
    assert_eq!(rig.keys().await, Vec::<String>::new());
    rig.database.set(Mode::Pass);
    let linked = rig.client().link_profile(&image_id).await.unwrap();
    assert_eq!(linked.refusal(), (409, "upload_in_progress"), "the attempt ends with its time");
}

#[tokio::test]
async fn an_upload_without_a_ticket_takes_no_turn() {
    let rig = Rig::start(&[("UPLOADS_OPEN", "1"), ("UPLOADS_WAITING", "0")]).await;
    let created = rig.create().await;
    let form = RawForm::of_ticket(created.form()).unwrap();
    let refused = form.begin(&rig.server.url, "/uploads", "", FILE_BYTES).await.unwrap();
    // The head alone is enough for the answer.
    assert_eq!(refused.answer().await.unwrap().refusal(), (403, "invalid_form"));
    let file = jpeg_of_exactly(300_000, 8);
    assert_eq!(rig.client().upload(created.form(), file).await.unwrap().status, 201);
}

#[tokio::test]
async fn an_upload_beyond_the_queue_is_refused_and_one_in_it_waits() {
    let rig = Rig::start(&[("UPLOADS_OPEN", "1"), ("UPLOADS_WAITING", "1")]).await;
    let half = Half::sent(&rig).await;
    let file = jpeg_of_exactly(300_000, 4);
    let client = rig.client();
    let waiting_file = file.clone();
    let waiting =
        tokio::spawn(
            async move { client.stream(ImagePath::UserProfile, ImageFormat::Jpeg, waiting_file).await.unwrap() },
        );
    until(async || rig.metric("uploads_waiting").await == 1).await;
    let shed = rig.client().stream(ImagePath::UserProfile, ImageFormat::Jpeg, file).await.unwrap();
    assert_eq!(shed.refusal(), (503, "overloaded"));
    assert!(shed.header("retry-after").parse::<u32>().unwrap() > 0);
    assert_eq!(rig.stand.count("image").await.unwrap(), 1, "neither has a row yet");
    let (answer, _image_id) = half.finish().await;
    assert_eq!(answer.status, 201);
    assert_eq!(waiting.await.unwrap().status, 201);
}

#[tokio::test]
async fn nobody_waits_for_room_with_a_turn_in_hand() {
    let budget = [("MAX_IMAGE_BYTES", "1000000"), ("BUFFER_BUDGET_BYTES", "1000000"), ("UPLOADS_WAIT_SECONDS", "1")];
    let rig = Rig::start(&budget).await;
    let file = jpeg_of_exactly(900_000, 10);
    let begin =
        async |form: &RawForm| form.begin(&rig.server.url, STREAM, &rig.person.token, file.len()).await.unwrap();
    // One upload uses nearly all of the buffer budget. Once it has a row, it has its turn.
    let mut held = begin(&RawForm::of_profile_image().with_boundary("nobody-knows-this-one")).await;
    held.send(&file[..1000]).await;
    until(async || rig.stand.count("image").await.unwrap() == 1).await;

    let disposition = "form-data; NAME = \"file\"; filename=\"a.jpg\"".to_owned();
    let mut otherwise_named = begin(&RawForm { disposition, ..RawForm::of_profile_image() }).await;
    otherwise_named.send(&file).await;
    let answer = otherwise_named.finish().await.unwrap();
    assert_eq!((answer.status, rig.uploads("streamed").await), (201, 1), "{answer:?}");

    // Three parts with long headers: the file begins after the bytes in which the server looks for it.
    let mut late = RawForm { padding_bytes: 7_000, ..RawForm::of_profile_image() };
    late.fields.push(("byteSize".to_owned(), file.len().to_string()));
    let mut late = begin(&late).await;
    late.send(&file).await;
    assert_eq!(late.finish().await.unwrap().refusal(), (400, "malformed_multipart"));

    held.send(&file[1000..]).await;
    assert_eq!(held.finish().await.unwrap().status, 201);
}

#[tokio::test]
async fn a_tampered_form_is_refused_as_s3_refuses_it() {
    let rig = Rig::start(&[]).await;
    let created = rig.create().await;
    let form = created.form();
    let other = rig.create().await;
    let change = |name: &str, value: &str| {
        let mut form = form.clone();
        form["fields"][name] = value.into();
        form
    };
    let with_url_of = |other: &Answer| {
        let mut form = form.clone();
        form["url"] = other.form()["url"].clone();
        form
    };
    let with_query = |query: &str| {
        let mut form = form.clone();
        form["url"] = format!("{}/uploads{query}", rig.server.url).into();
        form
    };
    let without = |name: &str| {
        let mut form = form.clone();
        form["fields"].as_object_mut().unwrap().remove(name);
        form
    };
    let cases = [
        (change("key", other.form()["fields"]["key"].as_str().unwrap()), (403, "invalid_form")),
        (change("key", "media/../incoming/x"), (403, "invalid_form")),
        (change("Content-Type", "image/png"), (403, "invalid_form")),
        (change("success_action_status", "200"), (403, "invalid_form")),
        (with_query(""), (403, "invalid_form")),
        (with_query("?ticket=a.b.c"), (403, "invalid_form")),
        (with_query("?ticket=%ff&ticket"), (403, "invalid_form")),
        (with_url_of(&other), (403, "invalid_form")),
        (change("x-amz-meta-extra", "1"), (403, "unexpected_field")),
        (without("key"), (403, "invalid_form")),
    ];
    let file = jpeg_of_exactly(10_000, 5);
    for (form, refusal) in cases {
        let answer = rig.client().upload(&form, file.clone()).await.unwrap();
        assert_eq!(answer.refusal(), refusal, "{form}");
    }
    rig.assert_nothing_stored().await;
    assert_eq!(rig.client().upload(form, file).await.unwrap().status, 201);
}
