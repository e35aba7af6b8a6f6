//! Who may do what: the three-key rule (DESIGN.md rule 11) in the access hook of `s3s`.
//!
//! A POST tells its key only after its form is parsed, so the hook runs in two steps: `check` decides on the operation and, for
//! paths, the key; `put_object`, through which `s3s` also sends a POST, decides on the key again.

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{Credentials, S3Auth, SecretKey};
use s3s::dto::PutObjectInput;
use s3s::path::S3Path;
use s3s::{S3Error, S3Request, S3Result, s3_error};
use upload_domain::{INCOMING_PREFIX, MEDIA_PREFIX};

use super::{REGION, ThreeKeys};

#[derive(Clone)]
pub(super) struct KeyRing {
    keys: ThreeKeys,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Job {
    Server,
    Signer,
    Reader,
}

impl KeyRing {
    pub(super) fn new(keys: &ThreeKeys) -> Self {
        Self { keys: keys.clone() }
    }

    fn job(&self, credentials: Option<&Credentials>) -> S3Result<Job> {
        let id = &credentials.ok_or_else(|| s3_error!(AccessDenied, "The request is not signed"))?.access_key;
        [(&self.keys.server, Job::Server), (&self.keys.signer, Job::Signer), (&self.keys.reader, Job::Reader)]
            .into_iter()
            .find_map(|(key, job)| (key.id == *id).then_some(job))
            .ok_or_else(|| s3_error!(InvalidAccessKeyId))
    }
}

#[async_trait::async_trait]
impl S3Auth for KeyRing {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        [&self.keys.server, &self.keys.signer, &self.keys.reader]
            .into_iter()
            .find(|key| key.id == access_key)
            .map(|key| SecretKey::from(key.secret.as_str()))
            .ok_or_else(|| s3_error!(InvalidAccessKeyId))
    }
}

#[async_trait::async_trait]
impl S3Access for KeyRing {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let job = self.job(context.credentials())?;
        let key = match context.s3_path() {
            S3Path::Object { key, .. } => Some(key.as_ref()),
            S3Path::Root | S3Path::Bucket { .. } => None,
        };
        let allowed = match (job, context.s3_op().name()) {
            (Job::Server, _) => true,
            (Job::Signer, "PutObject") => key.is_some_and(|key| key.starts_with(INCOMING_PREFIX)),
            // Its key is in the form: see `put_object`.
            (Job::Signer, "PostObject") => true,
            // Amazon's `s3:GetObject` covers HEAD too.
            (Job::Reader, "GetObject" | "HeadObject") => key.is_some_and(|key| key.starts_with(MEDIA_PREFIX)),
            _ => false,
        };
        if allowed { Ok(()) } else { Err(denied()) }
    }

    async fn put_object(&self, request: &mut S3Request<PutObjectInput>) -> S3Result<()> {
        let job = self.job(request.credentials.as_ref())?;
        // Signatures in headers and queries are looked at in `front`; those of forms can be only here. A form signed by the
        // old SigV2, which knows no region, ends here too.
        if request.region.as_ref().map(|region| region.as_str()) != Some(REGION)
            || request.service.as_deref() != Some("s3")
        {
            return Err(s3_error!(AuthorizationHeaderMalformed, "The credential must be for {REGION}/s3/aws4_request"));
        }
        match job {
            Job::Server => Ok(()),
            Job::Signer if request.input.key.starts_with(INCOMING_PREFIX) => Ok(()),
            Job::Signer | Job::Reader => Err(denied()),
        }
    }
}

fn denied() -> S3Error {
    s3_error!(AccessDenied, "This key may not do that")
}
