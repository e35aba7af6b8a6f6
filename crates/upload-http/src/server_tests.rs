//! What no request of a client can bring about: a panic, and the moments of a stop. No part of the world is needed.

use actix_web::{
    body::to_bytes,
    dev::ServiceResponse,
    test::{TestRequest, call_service, init_service},
};
use serde_json::Value;

use super::*;
use crate::{ApiError, FormMethod, PresignedForm};

#[derive(Debug, Parser)]
struct Settings {
    #[command(flatten)]
    common: CommonSettings,
}

/// Signs nothing.
struct NoForms;

impl IssueForm for NoForms {
    fn issue<'a>(
        &'a self,
        _image: &'a upload_persistence::images::Image,
        _method: FormMethod,
        _now: chrono::DateTime<chrono::Utc>,
        _expires_at: chrono::DateTime<chrono::Utc>,
    ) -> futures::future::BoxFuture<'a, Result<PresignedForm, ApiError>> {
        Box::pin(async { Err(ApiError::internal("there are no forms")) })
    }
}

async fn server() -> Server {
    let arguments = [
        "server",
        "--bind-address=127.0.0.1:0",
        "--public-api-url=http://127.0.0.1:0/api/",
        "--jwt-issuer=issuer",
        "--jwt-audience=audience",
        "--jwt-secret=01234567890123456789012345678901",
        "--database-url=postgres://nobody@127.0.0.1:1/nothing",
        "--s3-endpoint=http://127.0.0.1:1",
        "--s3-bucket=bucket",
        "--s3-access-key-id=server",
        "--s3-secret-access-key=secret",
        "--s3-reader-access-key-id=reader",
        "--s3-reader-secret-access-key=secret",
        "--shutdown-timeout=0",
    ];
    let settings = settings::parse::<Settings>(arguments.map(Into::into)).unwrap_or_else(|error| panic!("{error}"));
    let strategy =
        async |_start: &mut Start<'_>| Ok(Strategy::new("none", Arc::new(NoForms), Vec::new(), |_config, _storage| {}));
    let started = async {
        let taken = take(&settings.common.http.bind_address).await?;
        let Built { shared, configure, .. } = build(&settings.common, taken.address, strategy).await?;
        let (address, listener) = (taken.address, taken.listen()?);
        Ok::<_, StartError>(Server { settings: settings.common, listener, address, shared, configure })
    };
    started.await.unwrap_or_else(|error| panic!("{error}"))
}

async fn json(response: ServiceResponse) -> (u16, Value) {
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body()).await.unwrap_or_default();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[actix_web::test]
async fn port_0_in_the_public_url_is_the_bound_one() {
    let server = server().await;
    let expected = format!("http://{}/api", server.local_addr());
    assert_eq!(server.shared().public_api_url.as_str(), expected);
    let image = uuid::Uuid::nil().into();
    assert_eq!(server.shared().image_url(image), format!("{expected}/images/{image}"));
}

#[actix_web::test]
async fn a_panic_in_a_handler_is_a_500_with_an_id_and_nothing_else() {
    let shared = server().await.shared().clone();
    let panics = || async {
        let nothing: Option<&str> = None;
        nothing.map_or_else(|| panic!("a secret"), ToOwned::to_owned)
    };
    let app = App::new().app_data(web::Data::new(shared)).route("/", web::get().to(panics)).wrap(from_fn(boundary));
    let app = init_service(app).await;
    let error = actix_web::test::try_call_service(&app, TestRequest::get().uri("/").to_request()).await.err();
    let response = error.map(|error| error.error_response());
    let Some(response) = response else { panic!("a panic must be an error") };
    assert_eq!(response.status().as_u16(), 500);
    let id = response.headers().get(REQUEST_ID_HEADER).and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    assert!(response.headers().contains_key(header::X_CONTENT_TYPE_OPTIONS));
    let body = to_bytes(response.into_body()).await.unwrap_or_default();
    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
    assert_eq!((&problem["code"], &problem["requestId"]), (&"internal_error".into(), &Value::from(id)));
    assert!(!problem.to_string().contains("secret"));
}

#[actix_web::test]
async fn a_stopping_server_is_not_ready_and_its_end_drops_what_still_runs() {
    let Server { shared, configure, .. } = server().await;
    let never = |shared: web::Data<Shared>| async move {
        let _guard = shared.uploads.begin();
        std::future::pending::<&str>().await
    };
    let app = App::new()
        .app_data(web::Data::new(shared.clone()))
        .configure(|config| configure(config))
        .route("/never", web::get().to(never))
        .wrap(from_fn(boundary));
    let app = init_service(app).await;

    let ready = call_service(&app, TestRequest::get().uri("/health/ready").to_request()).await;
    let (status, body) = json(ready.map_into_boxed_body()).await;
    assert_eq!((status, &body["checks"]["server"]), (503, &"ok".into()), "{body}");
    shared.shutdown.begin();
    let ready = call_service(&app, TestRequest::get().uri("/health/ready").to_request()).await;
    let (status, body) = json(ready.map_into_boxed_body()).await;
    assert_eq!((status, &body["checks"]["server"]), (503, &"stopping".into()), "{body}");

    let request = actix_web::test::try_call_service(&app, TestRequest::get().uri("/never").to_request());
    let end = async {
        tokio::task::yield_now().await;
        assert_eq!(shared.uploads.cut_off(), 0);
        shared.shutdown.end();
    };
    let (outcome, ()) = futures::join!(request, end);
    assert_eq!(outcome.err().map(|error| error.as_response_error().status_code().as_u16()), Some(503));
    shared.uploads.wait().await;
    assert_eq!(shared.uploads.cut_off(), 1);
}

#[actix_web::test]
async fn two_servers_run_in_one_process_and_stop_by_themselves() {
    let (one, two) = (server().await, server().await);
    assert_ne!(one.local_addr(), two.local_addr());
    let stopped = futures::join!(one.run(async {}), two.run(async {}));
    for outcome in [stopped.0, stopped.1] {
        let outcome = outcome.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(outcome, Stopped { cut_off: 0, background_done: true });
    }
}
