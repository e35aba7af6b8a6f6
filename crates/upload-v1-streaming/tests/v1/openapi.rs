//! The OpenAPI document of this server.

#[tokio::test]
async fn the_document_is_the_one_checked_in_and_its_routes_and_page_are_served() {
    upload_contract::openapi::check(env!("CARGO_BIN_EXE_upload-v1-streaming"), "openapi-v1.json").await.unwrap();
}
