//! The requests of each target: here the name of a target becomes a [`Flow`].

use anyhow::{Context as _, Result};
use chrono::{TimeDelta, Utc};
use upload_domain::{ImageId, incoming_key};
use upload_sandbox::Stand;
use upload_storage::{FormRequest, Signer, StorageSettings};
use url::Url;
use uuid::Uuid;

use crate::{
    load::{Flow, FormMethod, PreparedForm, Role},
    payload::Payload,
    record::Target,
    stage::SinkConnection,
};

/// How long prepared forms are valid: longer than any round.
const FORM_LIFETIME: TimeDelta = TimeDelta::hours(1);

/// Whether its clients send tokens, as our own servers require.
pub fn has_users(target: Target) -> bool {
    use Target::{V1, V1Buffered, V1Stream, V2Post, V2Put, V2Unlinked, V2Version};
    matches!(target, V1 | V1Buffered | V1Stream | V2Post | V2Put | V2Unlinked | V2Version)
}

/// The key that signs the target's own requests to the sink. nginx passes on requests that clients signed with the signer's key.
pub fn own_key(target: Target) -> &'static str {
    match target {
        Target::Nginx | Target::Nginx128k => "signer",
        _ => "server",
    }
}

/// The requests of each image at a server. `None` for targets whose forms are signed beforehand.
///
/// # Errors
/// When the server's URL cannot have a path.
pub fn of_server(target: Target, server: &Url) -> Result<Option<Flow>> {
    let form = |method, link| Flow::Form { server: server.clone(), method, link };
    let once = |path: &str, fields: Vec<(String, String)>| {
        anyhow::Ok(Flow::Multipart { url: server.join(path)?, fields, file_field: "file".to_owned() })
    };
    Ok(Some(match target {
        Target::V1 | Target::V1Buffered | Target::V2Post | Target::V2Version => form(FormMethod::Post, true),
        Target::V2Put => form(FormMethod::Put, true),
        Target::V2Unlinked | Target::NodeV2 => form(FormMethod::Post, false),
        Target::V1Stream => once("/user/images/upload", vec![("path".to_owned(), "user-profile".to_owned())])?,
        Target::NodeV1 => once("/upload", Vec::new())?,
        Target::Direct | Target::Nginx | Target::Nginx128k => return Ok(None),
    }))
}

/// The requests of each image at a target that listens at `url`. `direct` has no URL: it is the store itself.
///
/// # Errors
/// When forms cannot be signed.
pub async fn flow(
    target: Target,
    url: Option<&Url>,
    stand: &Stand,
    sink: Option<&SinkConnection>,
    images: u32,
    payload: &Payload,
) -> Result<Flow> {
    if let Some(server) = url
        && let Some(flow) = of_server(target, server)?
    {
        return Ok(flow);
    }
    let settings = match sink {
        Some(sink) => StorageSettings { endpoint: sink.url.clone(), ..stand.storage_settings.clone() },
        None => stand.storage_settings.clone(),
    };
    let signer = Signer::new(&settings, &stand.signer_settings).await?;
    of_prepared_forms(url, &signer, images, payload).await
}

/// One POST for each image, with a form like V2's, but without V2 and without a row. It goes to the store, or to the relay in front.
///
/// # Errors
/// When forms cannot be signed.
pub async fn of_prepared_forms(relay: Option<&Url>, signer: &Signer, images: u32, payload: &Payload) -> Result<Flow> {
    let forms = prepared(signer, images, payload).await?;
    let first = forms.first().context("there are no images")?;
    let mut bucket = first.url.clone();
    if let Some(relay) = relay {
        // The relay passes the path on, and the signature of a form does not cover the host.
        bucket.set_host(relay.host_str())?;
        bucket.set_port(relay.port()).ok().context("a relay has a port")?;
    }
    let to = if relay.is_some() { Role::Server } else { Role::Store };
    Ok(Flow::Prepared { url: bucket, to, forms: forms.into_iter().map(|form| form.prepared).collect() })
}

struct Signed {
    url: Url,
    prepared: PreparedForm,
}

async fn prepared(signer: &Signer, images: u32, payload: &Payload) -> Result<Vec<Signed>> {
    let bytes = payload.file.len() as u64;
    let mut forms = Vec::new();
    for _image in 0..images {
        let image = ImageId::from(Uuid::now_v7());
        let now = Utc::now();
        let request = FormRequest {
            image,
            format: payload.format,
            min_bytes: bytes,
            max_bytes: bytes,
            checksum_sha256: None,
            now,
            expires_at: now + FORM_LIFETIME,
        };
        let form = signer.post_form(&request).await?;
        let prepared = PreparedForm { key: incoming_key(image), fields: form.fields };
        forms.push(Signed { url: form.url.parse()?, prepared });
    }
    Ok(forms)
}
