//! Requests with a wrong length and malformed requests, sent to the servers themselves.

use anyhow::{Context as _, Result};

use super::{
    bad_files::FLAT_BYTES,
    subject::{Kept, NOTHING, Subject, assert_refused},
    wire::{self, Then},
};

const BODY: &[u8] = br#"{"path":"user-profile","format":"image/png"}"#;

pub(super) async fn a_json_body_whose_length_lies_changes_nothing(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let url = format!("{}/user/images", subject.url());
    let bearer = format!("Bearer {}", user.token);
    let send = async |headers: &[(&str, &str)], body: &[u8], then: Then| -> Result<_> {
        let own = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        let headers: Vec<(&str, &str)> = own.into_iter().chain(headers.iter().copied()).collect();
        wire::exchange(&url, wire::request("POST", &url, &headers, body)?, then).await
    };
    let length = BODY.len().to_string();
    let (shorter, longer) = ((BODY.len() - 5).to_string(), (BODY.len() + 50).to_string());

    // Longer than its Content-Length: the announced part is not JSON, and the rest is not a request.
    let answer = send(&[("Content-Length", &shorter)], BODY, Then::Wait).await?.context("an answer")?;
    assert_refused("longer", &answer, (400, "invalid_request"));
    // Shorter, and the client is gone: the server may have nobody to answer.
    if let Some(answer) = send(&[("Content-Length", &longer)], BODY, Then::EndOfInput).await? {
        assert_refused("shorter", &answer, (400, "invalid_request"));
    }
    let chunks = wire::chunked(BODY, 7);
    let in_chunks = ("Transfer-Encoding", "chunked");
    if let Some(answer) = send(&[in_chunks], &chunks[..chunks.len() - 5], Then::EndOfInput).await? {
        assert_refused("chunks without an end", &answer, (400, "invalid_request"));
    }
    for coding in ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip", "x-unknown"] {
        let headers = [("Content-Length", length.as_str()), ("Content-Encoding", coding)];
        let answer = send(&headers, BODY, Then::Wait).await?.context("an answer")?;
        assert_refused(coding, &answer, (415, "unsupported_encoding"));
    }
    let large = vec![b' '; 1 << 20];
    let answer = send(&[("Content-Length", &large.len().to_string())], &large, Then::Wait).await?;
    assert_refused("a megabyte", &answer.context("an answer")?, (413, "payload_too_large"));
    let answer = send(&[in_chunks], &wire::chunked(&large, 10_000), Then::Wait).await?;
    assert_refused("a megabyte in chunks", &answer.context("an answer")?, (413, "payload_too_large"));
    // Each of these requests can be read in two ways, which could lead it past a proxy.
    let smuggled: [&[(&str, &str)]; 6] = [
        &[("Content-Length", &length), in_chunks],
        &[("Content-Length", &length), ("Content-Length", &shorter)],
        &[("Content-Length", "-1")],
        &[("Content-Length", "+44")],
        &[("Content-Length", "0x2c")],
        &[("Transfer-Encoding", "chunked, identity")],
    ];
    for headers in smuggled {
        if let Some(answer) = send(headers, BODY, Then::EndOfInput).await? {
            assert!((400..500).contains(&answer.status), "{headers:?}: {}", answer.status);
        }
    }
    assert_eq!(subject.kept().await?, NOTHING);

    // A request without a length is correct.
    let answer = send(&[in_chunks], &chunks, Then::Wait).await?.context("an answer")?.expect_status(201)?;
    assert!(!answer.image_id().is_empty());
    send(&[("Content-Length", &length)], BODY, Then::Wait).await?.context("an answer")?.expect_status(201)?;
    assert_eq!(subject.kept().await?, Kept { rows: 2, ..NOTHING });
    subject.assert_goes_on().await
}

pub(super) async fn a_broken_request_does_not_hurt_the_server(subject: &mut Subject) -> Result<()> {
    let url = subject.url().to_owned();
    let before = subject.server()?.peak_resident_bytes()?;
    let large = "x".repeat(1 << 20);
    let many: String = (0..1_000).map(|place| format!("X-{place}: b\r\n")).collect();
    let requests: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("a line's end", b"\r\n\r\n".to_vec()),
        ("noise", (0..=255).cycle().take(10_000).collect()),
        ("NUL", vec![0; 10_000]),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("HTTP/0.9", b"GET /limits\r\n\r\n".to_vec()),
        ("HTTP/9.9", b"GET /limits HTTP/9.9\r\n\r\n".to_vec()),
        ("no path", b"GET  HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("NUL in the path", b"GET /images/\0 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("a path of 1 MB", format!("GET /{large} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()),
        ("a method of 1 MB", format!("{large} / HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()),
        ("a header of 1 MB", format!("GET /nothing HTTP/1.1\r\nHost: a\r\nX-A: {large}\r\n\r\n").into_bytes()),
        ("1,000 headers", format!("GET /nothing HTTP/1.1\r\nHost: a\r\n{many}\r\n").into_bytes()),
        ("a header without a colon", b"GET /nothing HTTP/1.1\r\nHost a\r\n\r\n".to_vec()),
        ("a folded header", b"GET /nothing HTTP/1.1\r\nHost: a\r\n b\r\n\r\n".to_vec()),
        ("NUL in a header", b"GET /nothing HTTP/1.1\r\nHost: a\r\nX-A: \0\r\n\r\n".to_vec()),
        (
            "a chunk of no size",
            b"POST /user/images HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        ),
        (
            "a chunk of every size",
            b"POST /user/images HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx"
                .to_vec(),
        ),
        ("half of a request", b"GET /limits HTTP/1.1\r\nHos".to_vec()),
        ("an absolute URL", b"GET http://evil.example/nothing HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("a path that climbs", b"GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("CONNECT", b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_vec()),
        ("TRACE", b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
    ];
    for (what, request) in requests {
        let answer = wire::exchange(&url, request, Then::EndOfInput).await.with_context(|| what.to_owned())?;
        if let Some(answer) = answer {
            assert!((400..500).contains(&answer.status), "{what}: {}", answer.status);
        }
        subject.assert_goes_on().await.with_context(|| what.to_owned())?;
    }
    assert_eq!(subject.kept().await?, NOTHING);
    let grown = subject.server()?.peak_resident_bytes()?.saturating_sub(before);
    assert!(grown < FLAT_BYTES, "memory has grown by {grown} bytes");
    Ok(())
}
