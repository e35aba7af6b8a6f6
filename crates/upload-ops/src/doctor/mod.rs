//! `upload-ops doctor`: asks the store and the deployment what they can do, and says in plain words what follows.
//!
//! `upload_storage::capabilities` asks, and the start-up checks of the servers answer the rest. This file knows what an answer means for
//! these settings. It writes test objects under fresh keys in `incoming/` and `media/`, and removes all of them.

mod report;

use std::{net::IpAddr, time::Instant};

use anyhow::{Context as _, anyhow};
use chrono::Utc;
use upload_domain::{ClockOffset, ClockOffsets, origin};
use upload_persistence::{
    Database, DatabaseSettings,
    images::{self, Served},
};
use upload_storage::{
    KeyCheck, Pin, SignerSettings, Storage, StorageSettings, UploadMethod, UploadMethodSettings, bucket,
    capabilities::{Examination, Forged, PostForms, PutForms, Shown},
    chain, pin, rights,
};

use self::report::{Check, Grade, Report, Settings};
use crate::{Stop, progress::Progress, reach};

const NO_SIGNER: &str = "no signer's key is set; V1 needs none";

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArguments {
    /// Print the result as JSON, in the shape that docs/OPERATIONS.md describes
    #[arg(long)]
    json: bool,

    /// Origins of the browsers' pages that may upload to the store, separated by commas; `*` allows every one
    #[arg(long, env, hide_env_values = true, value_delimiter = ',', value_parser = origin)]
    cors_origins: Vec<String>,

    #[command(flatten)]
    database: DatabaseSettings,

    #[command(flatten)]
    storage: StorageSettings,

    #[command(flatten)]
    signer: SignerSettings,

    #[command(flatten)]
    upload_method: UploadMethodSettings,
}

/// Prints what it finds. It fails if the deployment is unsafe.
pub(crate) async fn run(arguments: &DoctorArguments) -> Result<(), Stop> {
    let database = reach::database(&arguments.database).await?;
    let (storage, exists) = reach::any_bucket(&arguments.storage).await?;
    if !exists {
        return Err(Stop::Settings(storage.advice_without_bucket()));
    }
    let examination =
        Examination::new(&storage, &arguments.storage, &arguments.signer).await.map_err(Stop::settings)?;
    let doctor = Doctor { arguments, database, storage, examination };
    let outcome = doctor.examine().await;
    let cleaned = doctor.examination.clean_up().await;
    let (mut checks, settings) = outcome?;
    checks.push(Check::new(
        "clean_up",
        "does the store delete the test objects?",
        &cleaned.map_or_else(|error| Shown::No(chain(&error)), |()| Shown::Yes),
        Grade::Unsafe,
        "give the server's key the right to delete incoming/* and media/* and, if the bucket has versions, to list and delete these",
    ));
    let report = Report::new(checks, settings);
    match arguments.json {
        true => println!("{}", serde_json::to_string_pretty(&report).context("cannot write the report")?),
        false => print!("{}", report.text()),
    }
    report.faults().map_or(Ok(()), |faults| Err(Stop::Failure(anyhow!("this deployment is unsafe: {faults}"))))
}

struct Doctor<'a> {
    arguments: &'a DoctorArguments,
    database: Database,
    storage: Storage,
    examination: Examination,
}

impl Doctor<'_> {
    async fn examine(&self) -> Result<(Vec<Check>, Settings), Stop> {
        let mut progress = Progress::default();
        let mut checks = Vec::new();
        progress.show("asking for the clocks and the keys");
        checks.push(self.clocks().await);
        let forged = self.examination.forged().await;
        let too_wide = too_wide(self.arguments.storage.key_check, &forged);
        checks.push(self.keys(too_wide).await?);
        checks.extend(unsigned(&forged));
        progress.show("sending forms");
        let (post, put) = (self.examination.post_forms().await, self.examination.put_forms().await);
        checks.extend(forms(self.arguments.upload_method.form_method, too_wide, post.as_ref(), put.as_ref()));
        progress.show("writing on conditions and in versions");
        let copy = self.examination.copy_if_match().await;
        checks.extend(self.conditions(&copy).await);
        let (by_put, by_form) = self.examination.versions(&self.arguments.storage).await.map_err(Stop::settings)?;
        checks.extend(self.versions(&by_put, by_form.as_ref()));
        checks.extend(self.pinned().await?);
        checks.extend(self.lifecycle().await);
        progress.show("asking at the address that clients use");
        checks.extend(self.public().await);
        checks.extend(self.cors().await);
        let pin = match (by_put.is_yes() && by_form.as_ref().is_none_or(Shown::is_yes), copy.is_yes()) {
            (true, _) => Some("version"),
            (false, true) => Some("copy"),
            (false, false) => None,
        };
        let form_method = match (post, put) {
            (Some(post), _) if enforces(&post) => Some("post"),
            (_, Some(put)) if put.accepted.is_yes() && put.size.is_yes() && put.expiry.is_yes() => Some("put"),
            _ => None,
        };
        Ok((checks, Settings { pin, form_method }))
    }

    async fn clocks(&self) -> Check {
        let (asked_at, asked) = (Utc::now(), Instant::now());
        let database = self.database.now().await;
        let database = database.ok().map(|said| ClockOffset::of_database(asked_at, asked.elapsed(), said));
        let (asked_at, asked) = (Utc::now(), Instant::now());
        let (_exists, date) = bucket::head(&self.storage).await;
        let store = date.map(|said| ClockOffset::of_store(asked_at, asked.elapsed(), said));
        let is_known = database.is_some() && store.is_some();
        let difference = ClockOffsets { database, store }.difference();
        let grade =
            if difference.is_some_and(|difference| !difference.is_tolerable()) { Grade::Unsafe } else { Grade::Note };
        let shown = match difference {
            Some(difference) => Shown::No(difference.to_string()),
            None if is_known => Shown::Yes,
            None => Shown::Unknown("the database or the store did not say its time".to_owned()),
        };
        let question = "do the clocks of this machine, the database and the store agree?";
        Check::new("clocks", question, &shown, grade, "check NTP; at more than 30 s no server starts")
    }

    /// The start-up check of the servers, also if `S3_KEY_CHECK` switches it off there.
    async fn keys(&self, too_wide: Grade) -> Result<Check, Stop> {
        let settings = StorageSettings { key_check: KeyCheck::Enforce, ..self.arguments.storage.clone() };
        let storage = Storage::new(&settings).await.map_err(Stop::settings)?;
        let checked = rights::check(&storage, self.examination.signer()).await;
        let shown = match checked {
            Err(error) => Shown::No(error.to_string()),
            Ok(()) if settings.allow_one_key => Shown::No("S3_ALLOW_ONE_KEY is true, which is for trials".to_owned()),
            Ok(()) => Shown::Yes,
        };
        let grade = if settings.allow_one_key { Grade::Unsafe } else { too_wide };
        let question = "has each key the rights that it needs, and no others?";
        Ok(Check::new("keys", question, &shown, grade, "see \"The three keys\" in docs/OPERATIONS.md"))
    }

    async fn conditions(&self, copy: &Shown) -> [Check; 2] {
        let copies = if self.storage.pin() == Pin::Copy { Grade::Unsafe } else { Grade::Note };
        [
            Check::new(
                "copy_if_match",
                "does the store refuse a copy of a file whose ETag has changed?",
                copy,
                copies,
                "S3_PIN=copy is not safe here; use another store, or S3_PIN=version",
            ),
            Check::new(
                "if_none_match",
                "does `If-None-Match: *` keep a PUT from overwriting?",
                &self.examination.if_none_match().await,
                Grade::Note,
                "the servers do not rely on it",
            ),
        ]
    }

    fn versions(&self, by_put: &Shown, by_form: Option<&Shown>) -> [Check; 2] {
        let grade = if self.storage.pin() == Pin::Version { Grade::Unsafe } else { Grade::Note };
        let remedy = "S3_PIN=version is not possible here";
        let question = "does the bucket keep each version that comes by a POST form?";
        [
            Check::new("versions_put", "does the bucket keep each version that comes by PUT?", by_put, grade, remedy),
            match by_form {
                Some(shown) => Check::new("versions_post", question, shown, grade, remedy),
                None => Check::not_asked("versions_post", question, NO_SIGNER),
            },
        ]
    }

    /// With `S3_PIN=copy`, whether the bucket still keeps what earlier links have pinned.
    async fn pinned(&self) -> Result<Option<Check>, Stop> {
        if self.storage.pin() == Pin::Version {
            return Ok(None);
        }
        let mut connection = self.database.connection().await.context("cannot reach the database")?;
        let pinned = images::find_pinned_by_version(&mut connection).await.context("cannot read linked images")?;
        drop(connection);
        let Some(Served { media_key, media_version: Some(version) }) = pinned else { return Ok(None) };
        let checked = pin::check_pinned(&self.storage, &media_key, &version).await;
        let shown = checked.map_or_else(|error| Shown::No(error.to_string()), |()| Shown::Yes);
        let question = "does the bucket keep the versions that earlier links have pinned?";
        Ok(Some(Check::new("pinned", question, &shown, Grade::Unsafe, "these images would be lost")))
    }

    async fn lifecycle(&self) -> [Check; 2] {
        let question = "is there no lifecycle rule that removes old versions under incoming/?";
        let expires = self.examination.expires_incoming().await;
        if !matches!(self.examination.has_versioning().await, Ok(true)) {
            let backstop = Check::new(
                "lifecycle",
                "does a lifecycle rule let incoming/ expire, as a backstop of the sweep?",
                &expires,
                Grade::Note,
                "run `upload-ops bucket`, if the store has such rules; the sweep removes these objects in any case",
            );
            return [backstop, Check::not_asked("keeps_old_versions", question, "the bucket has no versions")];
        }
        let (shown, otherwise) = match expires {
            Shown::Yes => (Shown::No("there is one, and it would hide linked images".to_owned()), Grade::Unsafe),
            Shown::No(_none) => (Shown::Yes, Grade::Unsafe),
            unknown @ Shown::Unknown(_) => (unknown, Grade::Note),
        };
        let keeps = self.examination.keeps_old_versions().await;
        let lost = if self.storage.pin() == Pin::Version { Grade::Unsafe } else { Grade::Note };
        [
            Check::new(
                "lifecycle",
                "is there no lifecycle rule that lets incoming/ expire, since the bucket has versions?",
                &shown,
                otherwise,
                "run `upload-ops bucket --versioning`",
            ),
            Check::new("keeps_old_versions", question, &keeps, lost, "remove the rule, or give it another prefix"),
        ]
    }

    async fn public(&self) -> Vec<Check> {
        let StorageSettings { endpoint, public_endpoint, .. } = &self.arguments.storage;
        let address = public_endpoint.as_ref().unwrap_or(endpoint);
        let differs = match public_endpoint {
            Some(public) if public != endpoint => Shown::Yes,
            _ => Shown::No(format!("clients use the address of S3_ENDPOINT, {address}")),
        };
        let is_private = address.host_str().is_some_and(is_private);
        let remedy = match is_private {
            true => "clients elsewhere cannot reach a private address; set S3_PUBLIC_ENDPOINT",
            false => "set S3_PUBLIC_ENDPOINT, if clients use another address",
        };
        let method = self.arguments.upload_method.form_method;
        let wrong = "correct S3_PUBLIC_ENDPOINT, or the proxy there";
        let question = "does a form that is sent to the public address arrive in this bucket?";
        vec![
            Check::new("public_differs", "has the store a public address of its own?", &differs, Grade::Note, remedy),
            Check::new(
                "public_read",
                "can an image be read at the public address, as clients read it?",
                &self.examination.public_read().await,
                Grade::Unsafe,
                wrong,
            ),
            match self.examination.public_upload(method).await {
                Some(shown) => Check::new("public_upload", question, &shown, Grade::Unsafe, wrong),
                None => Check::not_asked("public_upload", question, NO_SIGNER),
            },
        ]
    }

    async fn cors(&self) -> Vec<Check> {
        let question =
            "may pages of this origin send files to the public address, with their headers, and read the ETag?";
        let foreign = "does the store refuse pages of other origins?";
        let origins = &self.arguments.cors_origins;
        if origins.is_empty() {
            let unset = "CORS_ORIGINS is not set";
            return vec![Check::not_asked("cors", question, unset), Check::not_asked("cors_foreign", foreign, unset)];
        }
        let method = self.arguments.upload_method.form_method;
        let mut checks = Vec::new();
        for origin in origins {
            let remedy = "run `upload-ops bucket` with CORS_ORIGINS; MinIO has MINIO_API_CORS_ALLOW_ORIGIN";
            let check = match self.examination.cors(method, origin).await {
                Some(shown) => Check::new("cors", question, &shown, Grade::Unsafe, remedy),
                None => Check::not_asked("cors", question, NO_SIGNER),
            };
            checks.push(check.about(origin));
        }
        if origins.iter().any(|origin| origin == "*") {
            checks.push(Check::not_asked("cors_foreign", foreign, "CORS_ORIGINS allows every origin"));
            return checks;
        }
        let remedy = "a form is enough to upload from there; if that matters, let the store name the origins";
        checks.push(match self.examination.cors_foreign(method).await {
            Some(shown) => Check::new("cors_foreign", foreign, &shown, Grade::Note, remedy),
            None => Check::not_asked("cors_foreign", foreign, NO_SIGNER),
        });
        checks
    }
}

/// What it means if a key has more rights than it needs. Only where nobody can use a key without its secret, it can be tolerated.
fn too_wide(key_check: KeyCheck, forged: &Forged) -> Grade {
    match key_check {
        KeyCheck::Warn | KeyCheck::Off if forged.are_refused() => Grade::Note,
        KeyCheck::Enforce | KeyCheck::Warn | KeyCheck::Off => Grade::Unsafe,
    }
}

/// Whatever the settings are, the store must refuse these.
fn unsigned(forged: &Forged) -> Vec<Check> {
    let private = "make the bucket private: no policy and no ACL for everybody";
    let no_secret = "give the signer's key its policy of docs/OPERATIONS.md, or use another store: whoever has seen a form can write without the secret key";
    let questions = [
        ("unsigned_read", "does the store refuse a read without a signature?", Some(&forged.read), private),
        ("unsigned_list", "does it refuse to list the bucket without a signature?", Some(&forged.list), private),
        ("unsigned_write", "does it refuse a PUT without a signature?", Some(&forged.write), private),
        ("forged_post", "does it refuse a POST form with a wrong signature?", forged.post_form.as_ref(), no_secret),
        ("forged_put", "does it refuse a presigned PUT with a wrong signature?", forged.put_form.as_ref(), no_secret),
        (
            "forged_body",
            "does it refuse such a PUT also if that says that its body is not signed?",
            forged.unsigned_body.as_ref(),
            no_secret,
        ),
    ];
    let checks = questions.into_iter().map(|(id, question, shown, remedy)| match shown {
        Some(shown) => Check::new(id, question, shown, Grade::Unsafe, remedy),
        None => Check::not_asked(id, question, NO_SIGNER),
    });
    checks.collect()
}

fn forms(method: UploadMethod, too_wide: Grade, post: Option<&PostForms>, put: Option<&PutForms>) -> Vec<Check> {
    let names = [
        ("post_accepted", "does the store take POST forms?"),
        ("post_size", "does it refuse a POST form with a file of another size?"),
        ("post_key", "does it refuse a POST form for another key?"),
        ("post_media", "does it refuse a POST form that the signer's key signs for media/?"),
        ("post_expiry", "does it refuse a POST form that has expired?"),
        ("post_type", "does it refuse a POST form with another Content-Type?"),
        ("post_checksum", "does it refuse a POST form with a file of another SHA-256?"),
        ("put_accepted", "does the store take presigned PUTs?"),
        ("put_size", "does it refuse a presigned PUT of another size?"),
        ("put_expiry", "does it refuse a presigned PUT that has expired?"),
        ("put_type", "does it refuse a presigned PUT with another Content-Type?"),
    ];
    let (Some(post), Some(put)) = (post, put) else {
        return names.map(|(id, question)| Check::not_asked(id, question, NO_SIGNER)).into();
    };
    let of = |used: UploadMethod| if method == used { Grade::Unsafe } else { Grade::Note };
    let by_post = of(UploadMethod::Post);
    let by_media = if post.accepted.is_yes() { too_wide } else { Grade::Note };
    // Any client may ask for a PUT, so one that is taken must be checked.
    let by_put = if put.accepted.is_yes() { Grade::Unsafe } else { of(UploadMethod::Put) };
    let at_link = "the link refuses such a file, and the sweep removes it";
    let answers = [
        (&post.accepted, by_post, "set FORM_METHOD=put, if presigned PUTs are good"),
        (&post.size, by_post, "set FORM_METHOD=put, if presigned PUTs are good"),
        (&post.key, by_post, "set FORM_METHOD=put, if presigned PUTs are good"),
        (&post.media, by_media, "see \"The three keys\" in docs/OPERATIONS.md"),
        (&post.expiry, by_post, "set FORM_METHOD=put, if presigned PUTs are good"),
        (&post.content_type, Grade::Note, at_link),
        (&post.checksum, Grade::Note, at_link),
        (&put.accepted, of(UploadMethod::Put), "use POST forms"),
        (&put.size, by_put, "use another store: any client may ask for a PUT"),
        (&put.expiry, by_put, "use another store: any client may ask for a PUT"),
        (&put.content_type, Grade::Note, at_link),
    ];
    let both = names.into_iter().zip(answers);
    both.map(|((id, question), (shown, grade, remedy))| Check::new(id, question, shown, grade, remedy)).collect()
}

/// Whether V2 may give out POST forms. The link verifies the rest.
fn enforces(post: &PostForms) -> bool {
    [&post.accepted, &post.size, &post.key, &post.expiry].into_iter().all(Shown::is_yes)
}

fn is_private(host: &str) -> bool {
    match host.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_private(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.is_unique_local(),
        Err(_name) => !host.contains('.'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Forged {
        Forged {
            read: Shown::Yes,
            list: Shown::Yes,
            write: Shown::Yes,
            post_form: Some(Shown::Yes),
            put_form: Some(Shown::Yes),
            unsigned_body: Some(Shown::Yes),
        }
    }

    fn no() -> Shown {
        Shown::No("the store obeys".to_owned())
    }

    fn grade(checks: &[Check], id: &str) -> Option<Grade> {
        checks.iter().find(|check| check.id == id).map(|check| check.grade)
    }

    #[test]
    fn a_key_that_is_too_wide_is_tolerated_only_where_nobody_can_use_it_without_its_secret() {
        assert_eq!(too_wide(KeyCheck::Warn, &refused()), Grade::Note);
        assert_eq!(too_wide(KeyCheck::Enforce, &refused()), Grade::Unsafe);
        let without_signer = Forged { post_form: None, put_form: None, unsigned_body: None, ..refused() };
        assert_eq!(too_wide(KeyCheck::Off, &without_signer), Grade::Note);
        for forged in [
            Forged { read: no(), ..refused() },
            Forged { list: Shown::Unknown(String::new()), ..refused() },
            Forged { write: no(), ..refused() },
            Forged { post_form: Some(no()), ..refused() },
            Forged { put_form: Some(no()), ..refused() },
            Forged { unsigned_body: Some(no()), ..refused() },
        ] {
            assert_eq!(too_wide(KeyCheck::Warn, &forged), Grade::Unsafe, "{forged:?}");
            assert!(unsigned(&forged).iter().any(|check| check.grade == Grade::Unsafe), "{forged:?}");
        }
    }

    #[test]
    fn a_put_that_is_taken_must_be_checked_whatever_the_usual_method_is() {
        let (yes, unknown) = (|| Shown::Yes, || Shown::Unknown(String::new()));
        let post = PostForms {
            accepted: yes(),
            size: yes(),
            content_type: yes(),
            key: yes(),
            media: yes(),
            expiry: yes(),
            checksum: yes(),
        };
        let obeyed = PutForms { accepted: yes(), size: no(), content_type: no(), expiry: no() };
        for method in [UploadMethod::Post, UploadMethod::Put] {
            let checks = forms(method, Grade::Note, Some(&post), Some(&obeyed));
            for (id, expected) in
                [("put_size", Grade::Unsafe), ("put_expiry", Grade::Unsafe), ("put_type", Grade::Note)]
            {
                assert_eq!(grade(&checks, id), Some(expected), "{method:?} {id}");
            }
        }
        let not_taken = PutForms { accepted: no(), size: unknown(), content_type: unknown(), expiry: unknown() };
        let checks = forms(UploadMethod::Post, Grade::Note, Some(&post), Some(&not_taken));
        assert_eq!(grade(&checks, "put_size"), Some(Grade::Note));
        let checks = forms(UploadMethod::Put, Grade::Note, Some(&post), Some(&not_taken));
        assert_eq!(grade(&checks, "put_accepted"), Some(Grade::Unsafe));
    }

    #[test]
    fn a_form_for_media_is_as_bad_as_a_key_that_is_too_wide() {
        let (yes, unknown) = (|| Shown::Yes, || Shown::Unknown(String::new()));
        let put = PutForms { accepted: yes(), size: yes(), content_type: yes(), expiry: yes() };
        let post = |accepted: Shown, media: Shown| PostForms {
            accepted,
            size: yes(),
            content_type: yes(),
            key: yes(),
            media,
            expiry: yes(),
            checksum: yes(),
        };
        let of = |too_wide: Grade, post: PostForms| {
            grade(&forms(UploadMethod::Put, too_wide, Some(&post), Some(&put)), "post_media")
        };
        assert_eq!(of(Grade::Unsafe, post(yes(), no())), Some(Grade::Unsafe));
        assert_eq!(of(Grade::Note, post(yes(), no())), Some(Grade::Note));
        assert_eq!(of(Grade::Unsafe, post(no(), unknown())), Some(Grade::Note), "the store has no forms");
    }
}
