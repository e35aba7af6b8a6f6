#![doc = include_str!("../README.md")]

mod forms;

use std::sync::Arc;

use clap::Parser;
use upload_http::{CommonSettings, SettingsError, Start, StartError, Strategy};
use upload_storage::{Signer, SignerSettings, UploadMethodSettings};

pub use forms::SignedForms;

/// Upload server V2: clients upload directly to the store with presigned forms.
#[derive(Debug, Clone, Parser)]
#[command(name = "upload-v2-presigned", version)]
pub struct Settings {
    /// The settings of both servers.
    #[command(flatten)]
    pub common: CommonSettings,
    /// The key that signs forms.
    #[command(flatten, next_help_heading = "Signer")]
    pub signer: SignerSettings,
    /// Which forms it signs.
    #[command(flatten, next_help_heading = "Signer")]
    pub upload_method: UploadMethodSettings,
}

/// What makes a server V2: its forms. It has no routes of its own.
///
/// # Errors
/// When the signer's settings are wrong.
pub async fn strategy(settings: &Settings, _start: &mut Start<'_>) -> Result<Strategy, StartError> {
    let signer = Signer::new(&settings.common.storage, &settings.signer).await;
    let signer = Arc::new(signer.map_err(|error| SettingsError(error.to_string()))?);
    let forms =
        SignedForms::new(Arc::clone(&signer), settings.upload_method.form_method, settings.common.http.max_image_bytes);
    Ok(Strategy::new("presigned", Arc::new(forms), Vec::new(), |_config, _storage| {}).signer(signer))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::Settings;

    #[test]
    fn the_example_environment_names_every_variable() {
        upload_contract::env_example::assert_complete(&Settings::command());
    }

    #[test]
    fn compose_sets_what_this_server_needs_and_nothing_else() {
        upload_contract::compose::assert_fits(&Settings::command(), |matches| {
            let settings = Settings::from_arg_matches(matches).map_err(|error| error.to_string())?;
            settings.common.check().map_err(|error| error.to_string())?;
            settings.signer.check().map_err(|error| error.to_string())
        });
    }
}
