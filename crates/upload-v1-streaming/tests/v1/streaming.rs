//! Bytes flow through the server: what the store has while the client still sends, and how much memory the server uses.

use std::sync::Arc;

use upload_sandbox::{client::Answer, raw::RawForm, samples::jpeg_of_exactly};

use crate::rig::{PATIENT, Rig, STREAM, UPLOADS_ACTIVE};

const MIB: u64 = 1024 * 1024;

/// An example of each client's boundary.
const BOUNDARIES: [(&str, &str); 6] = [
    ("Chrome", "----WebKitFormBoundaryRv8Zs0kCq1nTtYp3"),
    ("Firefox", "----geckoformboundary2c9f8a6e1b7d4f30a5c2e8d1b6f47a93"),
    ("older Firefox", "---------------------------9051914041544843365972754266"),
    ("curl", "------------------------d74496d66958873e"),
    ("Node", "----formdata-undici-046389017425"),
    ("reqwest", "4f1d2c3b5a697887-0a1b2c3d4e5f6071-8293a4b5c6d7e8f9-1029384756abcdef"),
];

#[tokio::test]
async fn the_store_has_the_first_half_while_the_client_holds_back_the_second() {
    let rig = Rig::start(&[PATIENT]).await;
    let file = jpeg_of_exactly(5_000_000, 1);
    for (number, (client, boundary)) in BOUNDARIES.into_iter().enumerate() {
        let form = RawForm::of_profile_image().with_boundary(boundary);
        let mut upload = form.begin(&rig.server.url, STREAM, &rig.person.token, file.len()).await.unwrap();
        let (first, second) = file.split_at(file.len() / 2);
        upload.send(first).await;
        // All bytes of the earlier uploads, and a part of this one.
        rig.store.requested(number as u64 * file.len() as u64 + MIB).await;
        upload.send(second).await;
        let answer = upload.finish().await.unwrap();
        assert_eq!(answer.status, 201, "{client}: {answer:?}");
    }
    assert_eq!(rig.uploads("streamed").await, BOUNDARIES.len() as u64);
    assert_eq!(rig.uploads("buffered").await, 0);
    for key in rig.keys().await {
        assert!(rig.stand.storage.read(&key).await.unwrap().unwrap() == file, "{key} has other bytes");
    }
}

/// 32 uploads are active (the default), the others wait, and all have sent as much as the sockets take.
#[tokio::test]
async fn sixty_four_uploads_at_once_cost_less_than_their_windows() {
    const UPLOADS: u64 = 64;
    const FILE_BYTES: u64 = 4_800 * 1024;
    let rig = Arc::new(Rig::start(&[PATIENT]).await);
    let file: Arc<Vec<u8>> = jpeg_of_exactly(FILE_BYTES as usize, 2).into();
    // The first upload sets up everything that is needed only once: connections, statements, code.
    let warm_up = send(&rig, &RawForm::of_profile_image(), &file).await;
    assert_eq!(warm_up.status, 201);
    rig.server.reset_peak_resident_bytes().unwrap();
    let before = rig.server.resident_bytes().unwrap();

    let uploads: Vec<_> = (0..UPLOADS)
        .map(|_upload| {
            let (rig, file) = (rig.clone(), file.clone());
            tokio::spawn(async move {
                let form = RawForm::of_profile_image();
                let mut upload = form.begin(&rig.server.url, STREAM, &rig.person.token, file.len()).await.unwrap();
                let (first, second) = file.split_at(file.len() / 2);
                upload.send(first).await;
                // The active uploads keep back their second half until the store has a part of each.
                rig.store.requested(FILE_BYTES + UPLOADS_ACTIVE * MIB).await;
                upload.send(second).await;
                upload.finish().await.unwrap().status
            })
        })
        .collect();
    for upload in uploads {
        assert_eq!(upload.await.unwrap(), 201);
    }
    let rise = rig.server.peak_resident_bytes().unwrap().saturating_sub(before);
    println!("64 uploads of 4.8 MiB raised the peak by {} KiB each", rise / 1024 / UPLOADS);
    assert!(rise < UPLOADS * 768 * 1024, "the peak rose by {rise} bytes");
    assert_eq!(rig.keys().await.len() as u64, UPLOADS + 1);
}

#[tokio::test]
async fn a_form_whose_end_cannot_be_predicted_is_buffered() {
    let rig = Rig::start(&[]).await;
    let file = jpeg_of_exactly(1_000_000, 3);
    let unknown = RawForm::of_profile_image().with_boundary("nobody-knows-this-one");
    let answer = send(&rig, &unknown, &file).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let chunked =
        RawForm::of_profile_image().send_chunked(&rig.server.url, STREAM, &rig.person.token, &file).await.unwrap();
    assert_eq!(chunked.status, 201, "{chunked:?}");
    assert_eq!((rig.uploads("buffered").await, rig.uploads("streamed").await), (2, 0));
    for key in rig.keys().await {
        assert!(rig.stand.storage.read(&key).await.unwrap().unwrap() == file);
    }
}

#[tokio::test]
async fn a_file_is_streamed_however_its_part_writes_its_name() {
    let rig = Rig::start(&[]).await;
    let file = jpeg_of_exactly(600_000, 7);
    let names = ["NAME=\"file\"", "name=file", "Name = \"f\\ile\"", "filename=\"; name=x\"; name=\"file\""];
    for name in names {
        let created = rig.create().await;
        let form = RawForm::of_ticket(created.form()).unwrap();
        let head = String::from_utf8(form.head()).unwrap().replace("name=\"file\"; filename=\"a.jpg\"", name);
        let body_bytes = head.len() + file.len() + form.tail().len();
        let mut upload = form
            .begin_with(
                &rig.server.url,
                &RawForm::target(created.form()).unwrap(),
                head.as_bytes(),
                form.tail(),
                body_bytes,
            )
            .await
            .unwrap();
        upload.send(&file).await;
        let answer = upload.finish().await.unwrap();
        assert_eq!(answer.status, 201, "{name}: {answer:?}");
    }
    assert_eq!((rig.uploads("buffered").await, rig.uploads("streamed").await), (0, names.len() as u64));
}

#[tokio::test]
async fn without_a_queue_a_form_is_buffered_while_nobody_waits() {
    let rig = Rig::start(&[("UPLOADS_WAITING", "0")]).await;
    let file = jpeg_of_exactly(600_000, 8);
    let unknown = RawForm::of_profile_image().with_boundary("nobody-knows-this-one");
    let answer = send(&rig, &unknown, &file).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert!(rig.only_object().await == file);
    assert_eq!(rig.uploads("buffered").await, 1);
}

#[tokio::test]
async fn a_chunked_form_over_the_limit_is_refused_while_it_comes() {
    let rig = Rig::start(&[("MAX_IMAGE_BYTES", "1000000")]).await;
    let file = jpeg_of_exactly(1_000_001, 4);
    let answer =
        RawForm::of_profile_image().send_chunked(&rig.server.url, STREAM, &rig.person.token, &file).await.unwrap();
    assert_eq!(answer.refusal(), (413, "payload_too_large"));
    rig.assert_nothing_stored().await;
}

#[tokio::test]
async fn a_declared_body_over_the_limit_is_refused_before_it_is_read() {
    let rig = Rig::start(&[("MAX_IMAGE_BYTES", "1000000")]).await;
    // Only heads are sent, so an answer proves that the server did not wait for a body.
    for file_bytes in [1_000_001, 50_000_000] {
        let form = RawForm::of_profile_image();
        let upload = form.begin(&rig.server.url, STREAM, &rig.person.token, file_bytes).await.unwrap();
        assert_eq!(upload.answer().await.unwrap().refusal(), (413, "payload_too_large"));
    }
    assert_eq!(rig.stand.count("image").await.unwrap(), 0);
}

#[tokio::test]
async fn a_wrong_prediction_stores_nothing_and_a_declared_size_mends_it() {
    let rig = Rig::start(&[]).await;
    let file = jpeg_of_exactly(600_000, 5);
    // An older undici, which does not send the last line end.
    let form =
        RawForm { line_end: false, ..RawForm::of_profile_image() }.with_boundary("----formdata-undici-046389017425");
    let answer = send(&rig, &form, &file).await;
    assert_eq!(answer.refusal(), (422, "multipart_length_mismatch"));
    rig.assert_nothing_stored().await;

    let mut declared = form.clone();
    declared.fields.push(("byteSize".to_owned(), file.len().to_string()));
    assert_eq!(send(&rig, &declared, &file).await.status, 201);
    assert!(rig.only_object().await == file);
    assert_eq!(rig.uploads("streamed").await, 1);

    let mut wrong = form;
    wrong.fields.push(("byteSize".to_owned(), "599000".to_owned()));
    assert_eq!(send(&rig, &wrong, &file).await.refusal(), (422, "size_mismatch"));
}

#[tokio::test]
async fn a_file_that_holds_something_like_its_boundary_is_kept_whole() {
    let rig = Rig::start(&[]).await;
    let form = RawForm::of_profile_image();
    let mut file = jpeg_of_exactly(400_000, 6);
    let almost = format!("\r\n--{}", &form.boundary[..form.boundary.len() - 1]);
    for place in [300_000, 65_530, 262_140, 399_900] {
        file[place..place + almost.len()].copy_from_slice(almost.as_bytes());
    }
    let answer = send(&rig, &form, &file).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert!(rig.only_object().await == file);
}

#[tokio::test]
async fn a_second_upload_before_the_link_replaces_the_first() {
    let rig = Rig::start(&[]).await;
    let created = rig.create().await;
    for seed in [7, 8] {
        let file = jpeg_of_exactly(300_000, seed);
        let mut upload = RawForm::of_ticket(created.form())
            .unwrap()
            .begin(&rig.server.url, &RawForm::target(created.form()).unwrap(), "", file.len())
            .await
            .unwrap();
        upload.send(&file).await;
        let answer = upload.finish().await.unwrap();
        assert_eq!(answer.status, 201, "{answer:?}");
        assert!(answer.header("etag").starts_with('"') && answer.header("location").starts_with("http"), "{answer:?}");
        assert!(rig.only_object().await == file);
    }
    assert_eq!(rig.client().link_profile(created.image_id()).await.unwrap().status, 201);
    let mut late = RawForm::of_ticket(created.form())
        .unwrap()
        .begin(&rig.server.url, &RawForm::target(created.form()).unwrap(), "", 300_000)
        .await
        .unwrap();
    late.send(&jpeg_of_exactly(300_000, 9)[..1000]).await;
    assert_eq!(late.answer().await.unwrap().refusal(), (409, "already_linked"), "without waiting for the body");
    assert!(rig.client().download(created.image_id()).await.unwrap().body == jpeg_of_exactly(300_000, 8));
}

async fn send(rig: &Rig, form: &RawForm, file: &[u8]) -> Answer {
    let mut upload = form.begin(&rig.server.url, STREAM, &rig.person.token, file.len()).await.unwrap();
    upload.send(file).await;
    upload.finish().await.unwrap()
}
