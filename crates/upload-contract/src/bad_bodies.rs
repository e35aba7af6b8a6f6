//! Malformed, misleading and far too large forms, sent byte by byte to the server that takes them.
//!
//! In V2 the store takes them, and stores differ. So the suite checks only the outcome: the store refuses the form and has nothing, or
//! it takes the file and the link judges it. For V1 the suite checks the exact answer.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use upload_domain::{ImageFormat, ImagePath};
use upload_sandbox::client::Answer;

use super::{
    bad_files::FLAT_BYTES,
    subject::{Kept, Member, NOTHING, Strategy, Subject, assert_refused, picture, text},
    uploads::{good_form, new_form},
    wire::{self, BOUNDARY, FormBody, Then},
};

/// What the servers do with a form.
#[derive(Clone, Copy)]
enum Expected {
    /// V1 refuses with this status and code; the store refuses too.
    Refused(u16, &'static str),
    /// V1 refuses with this status and code; the store may take the form, and then has exactly the good file.
    RefusedByV1(u16, &'static str),
    /// V1 takes the form; the store may.
    TakenByV1,
}

/// Makes a request from a form's URL and the form.
type MakeRequest = Box<dyn Fn(&str, &Value) -> Result<Vec<u8>>>;

/// One form: its name in messages, the request, and the expected outcome.
struct Case {
    what: String,
    request: MakeRequest,
    then: Then,
    expected: Expected,
}

fn case(
    what: impl Into<String>,
    expected: Expected,
    request: impl Fn(&str, &Value) -> Result<Vec<u8>> + 'static,
) -> Case {
    Case { what: what.into(), request: Box::new(request), then: Then::Wait, expected }
}

/// A form that is sent with its true type and length.
fn form(what: impl Into<String>, expected: Expected, body: impl Fn(&Value) -> Result<Vec<u8>> + 'static) -> Case {
    case(what, expected, move |url, form| {
        let body = body(form)?;
        posted(url, &[], &body, body.len())
    })
}

/// A POST of a form's bytes that claims this length.
fn posted(url: &str, more_headers: &[(&str, &str)], body: &[u8], content_length: usize) -> Result<Vec<u8>> {
    let own = wire::form_headers(content_length);
    let own = own.iter().map(|(name, value)| (*name, value.as_str()));
    wire::request("POST", url, &own.chain(more_headers.iter().copied()).collect::<Vec<_>>(), body)
}

/// Sends every form, each for its own image. Checks the answer, and the rows and objects afterwards.
async fn send_all(subject: &mut Subject, cases: Vec<Case>) -> Result<()> {
    let mut user = subject.user().await?;
    let mut before = subject.server()?.peak_resident_bytes()?;
    let mut kept = NOTHING;
    for Case { what, request, then, expected } in cases {
        let (id, form) = new_form(&user.client).await?;
        kept.rows += 1;
        let url = text(&form["url"]);
        let answer = wire::exchange(url, request(url, &form)?, then).await.with_context(|| what.clone())?;
        let taken = judge(subject, &what, expected, answer.as_ref())?;
        if answer.is_none() && subject.strategy == Strategy::Streaming {
            user.client = user.client.at(subject.renew_server().await?);
            before = subject.server()?.peak_resident_bytes()?;
        }
        let link = user.link_profile(&id).await?;
        if taken {
            link.expect_status(201).with_context(|| what.clone())?;
            assert_eq!(user.download(&id).await?.body, picture(1), "{what}");
            kept = Kept { linked: kept.linked + 1, media: kept.media + 1, ..kept };
        } else {
            assert_refused(&what, &link, (409, "not_uploaded"));
            assert_eq!(subject.column(&id, "media_key").await?, None, "{what}");
        }
        assert_eq!(subject.kept().await?, kept, "{what}");
        let incoming = subject.stand.storage.list(&format!("incoming/{id}")).await?;
        assert!(taken || incoming.is_empty(), "{what}: {incoming:?}");
        subject.assert_goes_on().await.with_context(|| what.clone())?;
    }
    let grown = subject.server()?.peak_resident_bytes()?.saturating_sub(before);
    assert!(grown < FLAT_BYTES, "memory has grown by {grown} bytes");
    Ok(())
}

/// Checks that the answer is allowed, and returns whether the form was taken.
fn judge(subject: &Subject, what: &str, expected: Expected, answer: Option<&Answer>) -> Result<bool> {
    let taken = answer.is_some_and(|answer| (200..300).contains(&answer.status));
    match (subject.strategy, expected) {
        (Strategy::Streaming, Expected::Refused(status, code) | Expected::RefusedByV1(status, code)) => {
            // A client that ends the connection early may get no answer.
            if let Some(answer) = answer {
                assert_refused(what, answer, (status, code));
            } else {
                assert_eq!(code, "incomplete_body", "{what}: no answer");
            }
        }
        (Strategy::Streaming, Expected::TakenByV1) => {
            assert_eq!(answer.map(|answer| answer.status), Some(201), "{what}")
        }
        (Strategy::Presigned, Expected::Refused(..)) => assert!(!taken, "{what}: {answer:?}"),
        (Strategy::Presigned, _either) => {}
    }
    Ok(taken)
}

pub(super) async fn a_form_that_is_none_stores_nothing(subject: &mut Subject) -> Result<()> {
    use Expected::{Refused, RefusedByV1, TakenByV1};
    let cases = vec![
        form("no file", Refused(400, "missing_file"), |form| Ok(FormBody::of(form)?.end())),
        form("nothing at all", Refused(400, "missing_file"), |_form| Ok(FormBody::default().end())),
        form("no body", Refused(400, "incomplete_body"), |_form| Ok(Vec::new())),
        form("the file under another name", Refused(400, "missing_file"), |form| {
            Ok(FormBody::of(form)?.field("upload", "text").end())
        }),
        form("the file before the fields", Refused(403, "invalid_form"), |form| {
            let fields = FormBody::of(form)?.end();
            let file = FormBody::default().file(&picture(1)).unfinished();
            Ok([file, fields].concat())
        }),
        form("two files", RefusedByV1(400, "unexpected_field"), |form| Ok(good_form(form)?.file(&picture(2)).end())),
        form("a field after the file", RefusedByV1(400, "unexpected_field"), |form| {
            Ok(good_form(form)?.field("submit", "Upload").end())
        }),
        form("a field twice", RefusedByV1(403, "unexpected_field"), |form| {
            let key = text(&form["fields"]["key"]).to_owned();
            Ok(FormBody::of(form)?.field("key", &key).file(&picture(1)).end())
        }),
        form("10,000 parts", RefusedByV1(400, "too_many_parts"), |form| {
            let many =
                (0..10_000).fold(FormBody::of(form)?, |body, place| body.field(&format!("x-ignore-{place}"), ""));
            Ok(many.file(&picture(1)).end())
        }),
        form("10,000 files", RefusedByV1(400, "unexpected_field"), |form| {
            Ok((0..10_000).fold(good_form(form)?, |body, _place| body.file(b"x")).end())
        }),
        form("a header of 1 MB", RefusedByV1(400, "malformed_multipart"), |form| {
            let header = format!("Content-Disposition: form-data; name=\"x-ignore-a\"\r\nX-A: {}", "x".repeat(1 << 20));
            Ok(FormBody::of(form)?.part(header.as_bytes(), b"").file(&picture(1)).end())
        }),
        form("a file's header of 1 MB", RefusedByV1(400, "malformed_multipart"), |form| {
            let header = format!("Content-Disposition: form-data; name=\"file\"\r\nX-A: {}", "x".repeat(1 << 20));
            Ok(FormBody::of(form)?.part(header.as_bytes(), &picture(1)).end())
        }),
        form("a header without an end", Refused(400, "malformed_multipart"), |form| {
            let start = FormBody::of(form)?.unfinished();
            Ok([start, format!("--{BOUNDARY}\r\nX-A: {}", "x".repeat(1 << 20)).into_bytes()].concat())
        }),
        form("1,000 header lines", RefusedByV1(400, "malformed_multipart"), |form| {
            let header = format!("Content-Disposition: form-data; name=\"file\"{}", "\r\nX-A: b".repeat(1_000));
            Ok(FormBody::of(form)?.part(header.as_bytes(), &picture(1)).end())
        }),
        form("a field of 1 MB", RefusedByV1(400, "malformed_multipart"), |form| {
            Ok(FormBody::of(form)?.field("x-ignore-a", &"x".repeat(1 << 20)).file(&picture(1)).end())
        }),
        form("a field's name of 5,000 bytes", RefusedByV1(400, "malformed_multipart"), |form| {
            Ok(FormBody::of(form)?.field(&format!("x-ignore-{}", "a".repeat(5_000)), "").file(&picture(1)).end())
        }),
        form("a field that is no UTF-8", RefusedByV1(400, "malformed_multipart"), |form| {
            let header = b"Content-Disposition: form-data; name=\"x-ignore-a\"";
            Ok(FormBody::of(form)?.part(header, b"\xff\xfe").file(&picture(1)).end())
        }),
        form("a part without a name", RefusedByV1(400, "malformed_multipart"), |form| {
            Ok(FormBody::of(form)?.part(b"Content-Type: text/plain", b"x").file(&picture(1)).end())
        }),
        form("a flood before the first boundary", RefusedByV1(400, "malformed_multipart"), |form| {
            Ok([vec![b'x'; 1 << 20], b"\r\n".to_vec(), good_form(form)?.end()].concat())
        }),
        form("another boundary than it says", Refused(400, "malformed_multipart"), |form| {
            let body = good_form(form)?.end();
            let other = BOUNDARY.replace("d7", "e8");
            let mut changed = Vec::new();
            let mut rest = body.as_slice();
            while let Some(found) = rest.windows(BOUNDARY.len()).position(|window| window == BOUNDARY.as_bytes()) {
                changed.extend_from_slice(&rest[..found]);
                changed.extend_from_slice(other.as_bytes());
                rest = &rest[found + BOUNDARY.len()..];
            }
            changed.extend_from_slice(rest);
            Ok(changed)
        }),
        case("a page's form", Refused(400, "malformed_multipart"), |url, form| {
            let body = format!("key={}&file=x", text(&form["fields"]["key"]));
            let length = body.len().to_string();
            let headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Content-Length", length.as_str())];
            wire::request("POST", url, &headers, body.as_bytes())
        }),
        case("no type", Refused(400, "malformed_multipart"), |url, form| {
            let body = good_form(form)?.end();
            wire::request("POST", url, &[("Content-Length", &body.len().to_string())], &body)
        }),
        case("no boundary", Refused(400, "malformed_multipart"), |url, form| {
            let body = good_form(form)?.end();
            let length = body.len().to_string();
            let headers = [("Content-Type", "multipart/form-data"), ("Content-Length", length.as_str())];
            wire::request("POST", url, &headers, &body)
        }),
        case("a boundary of 71 bytes", RefusedByV1(400, "malformed_multipart"), |url, form| {
            let long = "b".repeat(71);
            let body = String::from_utf8_lossy(&FormBody::of(form)?.end()).replace(BOUNDARY, &long).into_bytes();
            let (content_type, length) = (format!("multipart/form-data; boundary={long}"), body.len().to_string());
            let headers = [("Content-Type", content_type.as_str()), ("Content-Length", length.as_str())];
            wire::request("POST", url, &headers, &body)
        }),
        case("gzip", RefusedByV1(415, "unsupported_encoding"), |url, form| {
            let body = good_form(form)?.end();
            posted(url, &[("Content-Encoding", "gzip")], &body, body.len())
        }),
        case("gzip that is gzip", Refused(415, "unsupported_encoding"), |url, _form| {
            let body = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0";
            posted(url, &[("Content-Encoding", "gzip")], body, body.len())
        }),
        case("brotli, spelled oddly", RefusedByV1(415, "unsupported_encoding"), |url, form| {
            let body = good_form(form)?.end();
            posted(url, &[("Content-Encoding", "Identity, BR")], &body, body.len())
        }),
        case("no length, in chunks", TakenByV1, |url, form| {
            let [content_type, _length] = wire::form_headers(0);
            let headers = [("Content-Type", content_type.1.as_str()), ("Transfer-Encoding", "chunked")];
            wire::request("POST", url, &headers, &wire::chunked(&good_form(form)?.end(), 100))
        }),
    ];
    send_all(subject, cases).await
}

/// Cut all over its fields and their heads, and in the second half of its file. In the first half, the length that such a form has
/// leaves no bytes for a file.
pub(super) async fn a_form_that_is_cut_stores_nothing(subject: &mut Subject) -> Result<()> {
    const IN_FIELDS: usize = 32;
    const IN_FILE: usize = 16;
    let refused = Expected::Refused(400, "incomplete_body");
    let in_fields = (1..=IN_FIELDS).map(|place| {
        form(format!("cut in the fields, {place} of {IN_FIELDS}"), refused, move |form| {
            let fields = FormBody::of(form)?.unfinished();
            Ok(fields[..fields.len() * place / IN_FIELDS].to_vec())
        })
    });
    let in_file = (IN_FILE / 2..IN_FILE).map(|place| {
        form(format!("cut in the file, {place} of {IN_FILE}"), refused, move |form| {
            let (file, whole) = (picture(1).len(), good_form(form)?.unfinished());
            let line_end = 2;
            Ok(whole[..whole.len() - line_end - file + file * place / IN_FILE].to_vec())
        })
    });
    send_all(subject, in_fields.chain(in_file).collect()).await
}

pub(super) async fn a_form_that_lies_about_its_length_stores_nothing(subject: &mut Subject) -> Result<()> {
    use Expected::{Refused, RefusedByV1};
    // A client that stops sending has one second.
    subject.add_server(&[("CLIENT_RATE_WINDOW_SECONDS", "1")]).await?;
    let ended = |mut case: Case| {
        case.then = Then::EndOfInput;
        case
    };
    let cut = |body: Vec<u8>, bytes: usize| body[..body.len() - bytes].to_vec();
    let file = picture(1).len();
    let cases = vec![
        form("without its last boundary", Refused(400, "incomplete_body"), |form| Ok(good_form(form)?.unfinished())),
        form("half of the file", Refused(400, "incomplete_body"), move |form| {
            Ok(cut(good_form(form)?.unfinished(), file / 2))
        }),
        form("without the last boundary's dashes", RefusedByV1(400, "malformed_multipart"), move |form| {
            Ok(cut(good_form(form)?.end(), 4))
        }),
        case("longer than its Content-Length", Refused(400, "incomplete_body"), |url, form| {
            let body = good_form(form)?.end();
            posted(url, &[], &body, body.len() - 100)
        }),
        case("Content-Length is zero", Refused(400, "incomplete_body"), |url, form| {
            posted(url, &[], &good_form(form)?.end(), 0)
        }),
        ended(case("shorter than its Content-Length, then gone", Refused(400, "incomplete_body"), |url, form| {
            let body = good_form(form)?.unfinished();
            posted(url, &[], &body, body.len() + 1_000)
        })),
        ended(case("nothing of what was promised, then gone", Refused(400, "incomplete_body"), |url, _form| {
            posted(url, &[], b"", 10_000)
        })),
        ended(case("chunks without an end, then gone", Refused(400, "incomplete_body"), |url, form| {
            let [content_type, _length] = wire::form_headers(0);
            let headers = [("Content-Type", content_type.1.as_str()), ("Transfer-Encoding", "chunked")];
            let chunks = wire::chunked(&good_form(form)?.unfinished(), 100);
            wire::request("POST", url, &headers, &chunks[..chunks.len() - 5])
        })),
        case("chunks that end early", RefusedByV1(400, "incomplete_body"), |url, form| {
            let [content_type, _length] = wire::form_headers(0);
            let headers = [("Content-Type", content_type.1.as_str()), ("Transfer-Encoding", "chunked")];
            wire::request("POST", url, &headers, &wire::chunked(&good_form(form)?.unfinished(), 100))
        }),
    ];
    send_all(subject, cases).await?;
    if subject.strategy == Strategy::Streaming {
        let user = subject.user().await?;
        a_stalled_form_is_given_up(subject, &user).await?;
    }
    Ok(())
}

/// Only for V1: the client sends no more and waits, so the server gives up.
async fn a_stalled_form_is_given_up(subject: &Subject, user: &Member) -> Result<()> {
    let (id, form) = new_form(&user.client).await?;
    let url = text(&form["url"]);
    let body = good_form(&form)?.unfinished();
    let request = posted(url, &[], &body, body.len() + 1_000)?;
    let answer = wire::exchange(url, request, Then::Wait).await?.context("an answer")?;
    assert_refused("stalled", &answer, (408, "upload_timeout"));
    assert_refused("stalled", &user.link_profile(&id).await?, (409, "not_uploaded"));
    // The same by the stream route.
    let url = format!("{}/user/images/upload", subject.url());
    let body = FormBody::default().field("path", "user-profile").file(&picture(1)).unfinished();
    let bearer = format!("Bearer {}", user.token);
    let request = posted(&url, &[("Authorization", &bearer)], &body, body.len() + 1_000)?;
    let answer = wire::exchange(&url, request, Then::Wait).await?.context("an answer")?;
    assert_refused("stalled", &answer, (408, "upload_timeout"));
    assert_eq!(subject.kept().await?.linked, 0);
    Ok(())
}

/// V1 foresees a file's length, because it knows how common clients end their forms. It detects a form that ends otherwise. If the
/// image has a declared length, V1 uses that one instead. V2's store takes both forms.
pub(super) async fn a_form_that_ends_otherwise_than_foreseen_needs_the_length(subject: &mut Subject) -> Result<()> {
    // Node's boundary, from before Node ended its forms with a line end.
    const NODES: &str = "----formdata-undici-046389017425";
    let user = subject.user().await?;
    let file = upload_sandbox::samples::jpeg_of_exactly(600_000, 5);
    let bearer = format!("Bearer {}", user.token);
    let send = async |url: String, fields: FormBody| -> Result<Answer> {
        let fields = String::from_utf8(fields.unfinished())?.replace(BOUNDARY, NODES);
        let disposition = "Content-Disposition: form-data; name=\"file\"; filename=\"a.jpg\"";
        let head = format!("{fields}--{NODES}\r\n{disposition}\r\nContent-Type: image/jpeg\r\n\r\n");
        let body = [head.as_bytes(), &file, format!("\r\n--{NODES}--").as_bytes()].concat();
        let (content_type, length) = (format!("multipart/form-data; boundary={NODES}"), body.len().to_string());
        let headers =
            [("Authorization", bearer.as_str()), ("Content-Type", &content_type), ("Content-Length", &length)];
        wire::exchange(&url, wire::request("POST", &url, &headers, &body)?, Then::Wait).await?.context("an answer")
    };
    if subject.strategy == Strategy::Streaming {
        let created = user.create_image(ImagePath::UserProfile, ImageFormat::Jpeg).await?.expect_status(201)?;
        let form = created.form();
        let uploaded = send(text(&form["url"]).to_owned(), FormBody::of(form)?).await?;
        assert_refused("by the form", &uploaded, (422, "multipart_length_mismatch"));
        let path = FormBody::default().field("path", "user-profile");
        let streamed = send(format!("{}/user/images/upload", subject.url()), path).await?;
        assert_refused("by the stream route", &streamed, (422, "multipart_length_mismatch"));
        assert_eq!(subject.objects().await?, [""; 0]);
        assert_refused("the form's", &user.link_profile(created.image_id()).await?, (409, "not_uploaded"));
    }
    let declared = json!({ "path": "user-profile", "format": "image/jpeg", "byteSize": file.len() });
    let created = user.post("/user/images", &declared).await?.expect_status(201)?;
    let form = created.form();
    match subject.strategy {
        Strategy::Streaming => send(text(&form["url"]).to_owned(), FormBody::of(form)?).await?.expect_status(201)?,
        Strategy::Presigned => user.upload(form, file.clone()).await?.expect_status(201)?,
    };
    user.link_profile(created.image_id()).await?.expect_status(201)?;
    assert!(user.download(created.image_id()).await?.body == file);
    Ok(())
}

/// V1's stream route, which V2 does not have: the same limits, with an API's codes in place of S3's.
pub(super) async fn a_streamed_form_that_is_none_stores_nothing(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let url = format!("{}/user/images/upload", subject.url());
    let bearer = format!("Bearer {}", user.token);
    let path = || FormBody::default().field("path", "user-profile");
    let good = || path().file(&picture(1));
    let many = |body: FormBody, count| (0..count).fold(body, |body, place| body.field(&format!("f{place}"), ""));
    let typed = |content_type: &str| {
        let header = format!("Content-Disposition: form-data; name=\"file\"{content_type}");
        path().part(header.as_bytes(), &picture(1)).end()
    };
    let sized = |bytes: &str| path().field("byteSize", bytes).file(&picture(1)).end();
    let long = "x".repeat(1 << 20);
    let header = format!("Content-Disposition: form-data; name=\"file\"\r\nX-A: {long}");
    let cases: Vec<(&str, Vec<u8>, (u16, &str))> = vec![
        ("nothing at all", FormBody::default().end(), (400, "missing_file")),
        ("no file", path().end(), (400, "missing_file")),
        ("no body", Vec::new(), (400, "incomplete_body")),
        (
            "the file first",
            FormBody::default().file(&picture(1)).field("path", "post").end(),
            (400, "unexpected_field"),
        ),
        ("a path that is none", FormBody::default().field("path", "../..").file(b"x").end(), (400, "invalid_request")),
        ("a path twice", path().field("path", "post").file(&picture(1)).end(), (400, "unexpected_field")),
        ("an unknown field", path().field("userId", "1").file(&picture(1)).end(), (400, "unexpected_field")),
        (
            "not theirs to create",
            FormBody::default().field("path", "competition").file(&picture(1)).end(),
            (403, "forbidden"),
        ),
        ("two files", good().file(&picture(2)).end(), (400, "unexpected_field")),
        ("a field after the file", good().field("submit", "Upload").end(), (400, "unexpected_field")),
        ("10,000 parts", many(path(), 10_000).file(&picture(1)).end(), (400, "unexpected_field")),
        ("10,000 parts after the file", many(good(), 10_000).end(), (400, "unexpected_field")),
        ("a header of 1 MB", path().part(header.as_bytes(), &picture(1)).end(), (400, "malformed_multipart")),
        ("a field of 1 MB", FormBody::default().field("path", &long).file(b"x").end(), (400, "malformed_multipart")),
        ("a flood first", [long.as_bytes(), &good().end()].concat(), (400, "malformed_multipart")),
        ("no end", good().unfinished(), (400, "incomplete_body")),
        ("a GIF", typed("; filename=\"a\"\r\nContent-Type: image/gif"), (415, "unsupported_media_type")),
        ("no type", typed("; filename=\"a\""), (415, "unsupported_media_type")),
        ("an SVG", typed("\r\nContent-Type: image/svg+xml"), (415, "unsupported_media_type")),
        ("another size", sized("7"), (422, "size_mismatch")),
        ("a size of nothing", sized("0"), (422, "empty_file")),
        ("a size beyond the limit", sized("20971521"), (413, "payload_too_large")),
        ("a negative size", sized("-1"), (400, "invalid_request")),
        ("a size in words", sized("one"), (400, "invalid_request")),
    ];
    let send = async |more: &[(&str, &str)], body: &[u8]| {
        let headers = [&[("Authorization", bearer.as_str())], more].concat();
        wire::post_form(&url, body, &headers).await?.context("an answer")
    };
    if subject.strategy == Strategy::Presigned {
        assert_refused("not V2's", &send(&[], &good().end()).await?, (404, "not_found"));
        assert_eq!(subject.kept().await?, NOTHING);
        return Ok(());
    }
    let before = subject.server()?.peak_resident_bytes()?;
    for (what, body, refusal) in cases {
        let answer = send(&[], &body).await.with_context(|| what.to_owned())?;
        assert_refused(what, &answer, refusal);
        let kept = subject.kept().await?;
        assert_eq!(Kept { rows: 0, ..kept }, NOTHING, "{what}");
        assert_eq!(subject.stand.count("image WHERE path = 'competition'").await?, 0, "{what}");
    }
    assert_refused("gzip", &send(&[("Content-Encoding", "gzip")], &good().end()).await?, (415, "unsupported_encoding"));
    let grown = subject.server()?.peak_resident_bytes()?.saturating_sub(before);
    assert!(grown < FLAT_BYTES, "memory has grown by {grown} bytes");

    let rows = subject.kept().await?.rows;
    send(&[], &sized(&picture(1).len().to_string())).await?.expect_status(201)?;
    let streamed = send(&[], &good().end()).await?.expect_status(201)?;
    user.link_profile(streamed.image_id()).await?.expect_status(201)?;
    assert_eq!(user.download(streamed.image_id()).await?.body, picture(1));
    assert_eq!(subject.kept().await?, Kept { rows: rows + 2, linked: 1, media: 2 });
    subject.assert_goes_on().await
}

/// A client may give its file any name. The form is taken, or its header is refused as a whole. The name is kept nowhere.
pub(super) async fn a_file_name_is_never_kept(subject: &mut Subject) -> Result<()> {
    const MARK: &str = "c0ffee";
    let user = subject.user().await?;
    // `Ok` means that V1 must take the form. A store may refuse any of them, and then has nothing.
    let names: Vec<(&str, Vec<u8>, Result<(), &str>)> = vec![
        ("plain", b"c0ffee.png".to_vec(), Ok(())),
        ("path traversal", b"../../../../etc/c0ffee.png".to_vec(), Ok(())),
        ("path traversal, backwards", b"..\\\\..\\\\c0ffee.png".to_vec(), Ok(())),
        ("path traversal, encoded", b"%2e%2e%2f%2e%2e%2fc0ffee.png".to_vec(), Ok(())),
        ("absolute", b"/etc/c0ffee".to_vec(), Ok(())),
        ("another's key", b"media/c0ffee/1".to_vec(), Ok(())),
        ("S3's own variable", b"${filename}c0ffee".to_vec(), Ok(())),
        ("right-to-left", "c0ffee\u{202e}gnp.exe".as_bytes().to_vec(), Ok(())),
        ("Korean", "c0ffee사진.png".as_bytes().to_vec(), Ok(())),
        ("no UTF-8", b"c0ffee\xff\xfe.png".to_vec(), Err("malformed_multipart")),
        ("a log line of its own", b"c0ffee\\n{level: ERROR}".to_vec(), Ok(())),
        ("SQL", b"c0ffee'; DROP TABLE image; --".to_vec(), Ok(())),
        ("empty", Vec::new(), Ok(())),
        ("dots", b"..".to_vec(), Ok(())),
        ("5 KiB", [b"c0ffee".as_slice(), &[b'a'; 5 * 1024]].concat(), Ok(())),
        ("10 KiB", [b"c0ffee".as_slice(), &[b'a'; 10 * 1024]].concat(), Err("malformed_multipart")),
        ("NUL", b"c0ffee\0.png".to_vec(), Err("malformed_multipart")),
        ("a terminal's commands", b"c0ffee\x1b[31m".to_vec(), Err("malformed_multipart")),
        ("a header of its own", b"c0ffee\"\r\nX-A: \"b".to_vec(), Ok(())),
    ];
    let mut linked = 0;
    for (what, name, by_v1) in &names {
        let (id, form) = new_form(&user.client).await?;
        let body = FormBody::of(&form)?.named_file(name, &picture(1)).end();
        let answer = super::uploads::by_hand(&form, &body).await?.with_context(|| format!("{what}: an answer"))?;
        if subject.strategy == Strategy::Streaming {
            match by_v1 {
                Ok(()) => assert_eq!(answer.status, 201, "{what}: {}", answer.json),
                Err(code) => assert_refused(what, &answer, (400, code)),
            }
        }
        let link = user.link_profile(&id).await?;
        if answer.status == 201 {
            link.expect_status(201).with_context(|| (*what).to_owned())?;
            linked += 1;
            let served = user.download(&id).await?;
            assert_eq!(served.body, picture(1), "{what}");
            assert!(!format!("{:?}", served.headers).contains(MARK), "{what}: {:?}", served.headers);
        } else {
            assert!((400..500).contains(&answer.status), "{what}: {}", answer.status);
            assert_refused(what, &link, (409, "not_uploaded"));
        }
    }
    let rows = names.len() as u64;
    assert_eq!(subject.kept().await?, Kept { rows, linked, media: usize::try_from(linked)? });
    assert!(linked >= 10, "most names are taken: {linked}");
    assert!(subject.objects().await?.iter().all(|key| !key.contains(MARK)));
    let told = "image WHERE image::text LIKE '%c0ffee%'";
    assert_eq!(subject.stand.count(told).await?, 0);
    assert!(subject.server()?.log().iter().all(|line| !line.contains(MARK)), "{:?}", subject.server()?.log());
    subject.assert_goes_on().await
}
