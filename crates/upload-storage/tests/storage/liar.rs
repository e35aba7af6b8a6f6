//! A store that does not do what it should. It is the stand's own store behind a front. To lose versions, the front changes the bucket's
//! versioning between two requests. What the store itself would refuse, the front does with the admin's key.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, body::Incoming, header::HeaderValue, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::Mutex};
use upload_storage::{Storage, bucket};
use url::Url;

use crate::stand::Stand;

/// What is wrong with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// It keeps no version, as Garage.
    KeepsNone,
    /// It keeps no version of what comes by a form, as SeaweedFS.
    KeepsNoneOfForms,
    /// It answers with this status and code to a form that names a version.
    Fails(u16, &'static str),
    /// It lists the same versions on every page.
    ListsForEver,
    /// It answers 501 to forms, as Cloudflare R2.
    TakesNoForms,
    /// Its preflights allow this header alone.
    AllowsOnlyHeader(&'static str),
    /// It does what each form, PUT and copy says, also what an unsigned GET says, and checks nothing.
    ObeysEverybody,
}

const ENDLESS: &str =
    "<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker></ListVersionsResult>";

/// The endpoint of such a store, as long as the test's runtime lives.
pub async fn before(stand: &Stand, lie: Lie) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let target = stand.settings.endpoint.as_str().trim_end_matches('/').to_owned();
    // Its lock keeps a write and its versioning together.
    let admin = Arc::new(Mutex::new(Storage::new(&stand.admin_settings).await.unwrap()));
    tokio::spawn(async move {
        while let Ok((stream, _peer)) = listener.accept().await {
            let (target, admin) = (target.clone(), Arc::clone(&admin));
            let service = service_fn(move |request| {
                let (target, admin) = (target.clone(), Arc::clone(&admin));
                async move {
                    let admin = admin.lock().await;
                    let of_object = request.uri().path().contains("/incoming/");
                    let is_form = request.method() == Method::POST && request.uri().query().is_none();
                    let query = request.uri().query().unwrap_or_default();
                    let keeps = match lie {
                        Lie::Fails(status, code) if request.method() == Method::POST && query.contains("versionId") => {
                            return Ok(answer(status, format!("<Error><Code>{code}</Code></Error>")));
                        }
                        Lie::ListsForEver if query.contains("versions") => {
                            return Ok(answer(200, ENDLESS.to_owned()));
                        }
                        Lie::TakesNoForms if is_form => {
                            return Ok(answer(501, "<Error><Code>NotImplemented</Code></Error>".to_owned()));
                        }
                        Lie::ObeysEverybody if is_form || request.method() == Method::PUT => {
                            return Ok(obey(&admin, request).await);
                        }
                        Lie::ObeysEverybody if request.method() == Method::GET && is_unsigned(&request) => {
                            return Ok(disclose(&admin, request.uri().path()).await);
                        }
                        Lie::AllowsOnlyHeader(header) if request.method() == Method::OPTIONS => {
                            let mut answer = pass(&target, request).await;
                            let allowed = HeaderValue::from_static(header);
                            answer.headers_mut().insert("access-control-allow-headers", allowed);
                            return Ok(answer);
                        }
                        Lie::Fails(..)
                        | Lie::ListsForEver
                        | Lie::TakesNoForms
                        | Lie::AllowsOnlyHeader(_)
                        | Lie::ObeysEverybody => true,
                        Lie::KeepsNone => !(of_object && request.method() == Method::PUT),
                        Lie::KeepsNoneOfForms => !is_form,
                    };
                    if keeps {
                        return Ok::<_, Infallible>(pass(&target, request).await);
                    }
                    bucket::suspend_versioning(&admin).await.unwrap();
                    let answer = pass(&target, request).await;
                    bucket::enable_versioning(&admin).await.unwrap();
                    Ok(answer)
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    endpoint
}

/// Stores what the request brings or copies, under the key that it names.
async fn obey(admin: &Storage, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let key_in = |path: &str| path.trim_start_matches('/').split_once('/').unwrap().1.to_owned();
    let part = |name: &str| {
        let (_before, rest) = body.split_once(&format!("name=\"{name}\"")).unwrap();
        rest.split_once("\r\n\r\n").unwrap().1.split("\r\n--").next().unwrap().to_owned()
    };
    if let Some(source) = header("x-amz-copy-source") {
        let bytes = admin.read(&key_in(&source)).await.unwrap().unwrap();
        admin.put(&key_in(head.uri.path()), "image/png", bytes).await.unwrap();
        return answer(200, "<CopyObjectResult><ETag>\"copied\"</ETag></CopyObjectResult>".to_owned());
    }
    let (key, content_type, bytes) = match head.method {
        Method::POST => (part("key"), part("Content-Type"), part("file")),
        _ => (key_in(head.uri.path()), header("content-type").unwrap_or_default(), body),
    };
    admin.put(&key, &content_type, bytes.into()).await.unwrap();
    answer(200, String::new())
}

/// Whether nobody has signed the request.
fn is_unsigned(request: &Request<Incoming>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    !request.headers().contains_key("authorization") && !query.contains("X-Amz-Signature")
}

/// The object under this path, or a list of all if the path names none.
async fn disclose(admin: &Storage, path: &str) -> Response<Full<Bytes>> {
    let key = path.trim_start_matches('/').split_once('/').unwrap().1;
    match key {
        "" => answer(200, format!("<ListBucketResult>{}</ListBucketResult>", admin.list("").await.unwrap().join(" "))),
        key => Response::new(Full::new(admin.read(key).await.unwrap().unwrap_or_default())),
    }
}

fn answer(status: u16, xml: String) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(xml.into())).unwrap()
}

/// Passes a request on with all its headers, so that its signature stays good.
async fn pass(target: &str, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let sent = client.request(head.method, format!("{target}{}", head.uri)).headers(head.headers).body(body);
    let answer = sent.send().await.unwrap();
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        response = response.header(name, value);
    }
    response.body(Full::new(answer.bytes().await.unwrap())).unwrap()
}
