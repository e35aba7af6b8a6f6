//! The bucket's own rules, and versions.

use aws_sdk_s3::types::ExpirationStatus;
use upload_domain::INCOMING_PREFIX;

use super::{Examination, Shown};
use crate::{Pin, SettingsError, Storage, StorageError, StorageSettings, bucket, error::code, pin};

impl Examination {
    /// Whether the bucket keeps what `S3_PIN=version` needs, whatever the setting is: first of what comes by PUT, then of what comes by a
    /// form (`None` without a signer). These are the start-up checks of that setting.
    ///
    /// # Errors
    /// [`SettingsError`] when the keys cannot be opened once more.
    pub async fn versions(&self, settings: &StorageSettings) -> Result<(Shown, Option<Shown>), SettingsError> {
        let settings = StorageSettings { pin: Pin::Version, ..settings.clone() };
        let storage = Storage::new(&settings).await?;
        let shown = |checked: Result<(), pin::PinError>| {
            checked.map_or_else(|error| Shown::No(error.to_string()), |()| Shown::Yes)
        };
        let by_put = shown(pin::check(&storage, None).await);
        let by_form = match (self.signer(), &by_put) {
            (None, _) => None,
            (Some(_signer), Shown::No(_) | Shown::Unknown(_)) => Some(by_put.clone()),
            (Some(signer), Shown::Yes) => Some(shown(pin::check(&storage, Some(signer)).await)),
        };
        Ok((by_put, by_form))
    }

    /// Whether the bucket has or had versioning. A key that may not ask is one for a bucket without versions.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn has_versioning(&self) -> Result<bool, StorageError> {
        self.storage.has_versions().await
    }

    /// Whether a rule of the bucket lets objects in `incoming/` expire, as a backstop of the sweep. In a bucket with versions no such rule may
    /// be there: it hides linked images.
    pub async fn expires_incoming(&self) -> Shown {
        match bucket::lifecycle(&self.storage).await {
            Ok(rules) => {
                let expires = rules.iter().any(|(rule, _xml)| {
                    let prefix = bucket::prefix(rule);
                    rule.status() == &ExpirationStatus::Enabled
                        && rule.expiration().is_some_and(|expiration| expiration.days().is_some())
                        && INCOMING_PREFIX.starts_with(prefix)
                });
                if expires { Shown::Yes } else { Shown::No("no rule of the bucket lets incoming/ expire".to_owned()) }
            }
            Err(error) if code(&error) == Some("AccessDenied") => {
                Shown::Unknown("the server's key may not get the bucket's lifecycle, and need not".to_owned())
            }
            Err(error) => match bucket::not_supported(error) {
                Ok(_no_rules) => Shown::No("the store has no lifecycle rules".to_owned()),
                Err(error) => error.into(),
            },
        }
    }

    /// Whether the bucket has no rule that removes old versions under `incoming/`: that would remove linked images.
    pub async fn keeps_old_versions(&self) -> Shown {
        match pin::rule_against_versions(&self.storage).await {
            Ok(None) => Shown::Yes,
            Ok(Some(rule)) => Shown::No(rule),
            Err(error) => Shown::Unknown(error.to_string()),
        }
    }
}
