//! The servers' description of their interface: the server serves the document in docs/ and exactly the routes in it, and the document's
//! page loads nothing from elsewhere.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use upload_sandbox::{Sandbox, client::Client, process::Server};

/// The HTTP methods that a route may have.
const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// Asserts all of this of a server; `file` is the document's name in `docs/`. `UPDATE_OPENAPI=1` makes it write the file anew.
pub async fn check(binary: &str, file: &str) -> Result<()> {
    let stand = Sandbox::shared().await.try_stand().await?;
    let server = Server::start(binary, &stand, &[]).await?;
    let client = Client::anonymous(&server.url)?;
    document_is_current(&client, &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(file)).await?;
    routes_are_the_documented_ones(&client).await?;
    page_loads_nothing_from_elsewhere(&client).await
}

async fn document_is_current(client: &Client, file: &Path) -> Result<()> {
    let served = client.get("/openapi.json").await?.expect_status(200)?;
    ensure!(served.header("content-type") == "application/json");
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        fs::write(file, &served.body)?;
    }
    let kept = fs::read(file).with_context(|| file.display().to_string())?;
    ensure!(
        kept == served.body,
        "{} is not what the server says of itself; `UPDATE_OPENAPI=1 cargo test -p upload-v1-streaming -p upload-v2-presigned openapi` renews it",
        file.display()
    );
    Ok(())
}

/// The server answers 405 to every method that is not in the document, and to no other.
async fn routes_are_the_documented_ones(client: &Client) -> Result<()> {
    let document = client.get("/openapi.json").await?.json;
    let paths = document["paths"].as_object().context("the document has no paths")?;
    for (path, operations) in paths {
        for method in METHODS {
            let documented = operations.get(method.as_str().to_ascii_lowercase()).is_some();
            let concrete = path.replace("{id}", "0199a0c4-5d3e-7c6a-9b1f-2f6d0c8e4a71");
            let answer = client.send(client.request(method.clone(), &concrete)).await?;
            ensure!((answer.status != 405) == documented, "{method} {path}: {}", answer.status);
            ensure!(answer.code() != "not_found", "{method} {path} is not served");
        }
    }
    Ok(())
}

async fn page_loads_nothing_from_elsewhere(client: &Client) -> Result<()> {
    let redirect = client.get("/docs").await?.expect_status(308)?;
    ensure!(redirect.header("location") == "docs/");
    let page = client.get("/docs/").await?.expect_status(200)?;
    ensure!(page.header("content-type").starts_with("text/html"));
    // The browser enforces this policy for the page and its scripts.
    for directive in page.header("content-security-policy").split(';') {
        let mut words = directive.split_whitespace();
        let name = words.next().unwrap_or_default();
        let ours = |source: &str| matches!(source, "'self'" | "'none'") || (name == "img-src" && source == "data:");
        ensure!(words.all(ours), "{directive}");
    }
    ensure!(page.header("content-security-policy").starts_with("default-src 'none';"));

    let html = String::from_utf8_lossy(&page.body);
    let names = attributes(&html);
    ensure!(names.len() > 3, "the page loads nothing at all: {html}");
    for name in names {
        ensure!(!name.contains("//") && !name.starts_with('/'), "the page loads {name}");
        let asset = client.get(&format!("/docs/{}", name.trim_start_matches("./"))).await?.expect_status(200)?;
        ensure!(
            !asset.body.is_empty() && asset.header("content-security-policy") == page.header("content-security-policy")
        );
        let text = String::from_utf8_lossy(&asset.body);
        if name.ends_with(".css") {
            let urls = text.split("url(").skip(1);
            ensure!(
                urls.clone().all(|url| url.trim_start_matches(['"', '\'']).starts_with("data:"))
                    && !text.contains("@import"),
                "{name}"
            );
        }
        if name.ends_with("swagger-initializer.js") {
            ensure!(text.contains("\"../openapi.json\"") && !text.contains("http"), "{text}");
        }
    }
    ensure!(client.get("/docs/../Cargo.toml").await?.status == 404);
    ensure!(client.get("/docs/nothing.js").await?.refusal() == (404, "not_found"));
    Ok(())
}

/// The URLs to which the page refers.
fn attributes(html: &str) -> Vec<&str> {
    let values = ["src=\"", "href=\""].into_iter().flat_map(|attribute| html.split(attribute).skip(1));
    values.filter_map(|rest| rest.split('"').next()).collect()
}
