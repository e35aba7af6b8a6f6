//! Why an image is not linked, named by meaning. `upload-http` has the texts that clients read.

use upload_domain::Refusal;
use upload_persistence::{DatabaseError, QueryError, images::Standing};
use upload_storage::{StorageError, VersionError};

use crate::{NotRecovered, Panicked};

/// Why an image was not linked, or could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is no such image, or it belongs to another user.
    #[error("there is no such image")]
    ImageNotFound,
    /// The user's row does not allow this.
    #[error("the user is not allowed to do this")]
    Forbidden,
    /// There is no such competition.
    #[error("there is no such competition")]
    CompetitionNotFound,
    /// The image was created for another use.
    #[error("the image's path does not match the target")]
    WrongPath,
    /// The image has been linked before, perhaps to something that is deleted by now.
    #[error("the image has been linked before")]
    AlreadyLinked,
    /// Another link holds the image.
    #[error("the image is being linked")]
    LinkInProgress,
    /// An upload holds the image.
    #[error("the image is being uploaded")]
    UploadInProgress,
    /// The image is too old to be linked.
    #[error("the image was not linked in time")]
    Expired,
    /// The content may not be kept. The row says so, too.
    #[error("the content is refused: {}", .0.as_str())]
    Refused(Refusal),
    /// Nothing is under the image's incoming key.
    #[error("no file has been uploaded")]
    NotUploaded,
    /// A client wrote to the incoming key during the link. If the copy was checked, this says what was wrong with it.
    #[error("the upload changed during the link")]
    UploadChanged(Option<Refusal>),
    /// Too many links wait for their turn.
    #[error("too many links at the same time: the link waited too long for its turn")]
    Overloaded,
    /// The lease was nearly over before the image was verified and pinned.
    #[error("the store took too long")]
    TooSlow,
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The work panicked.
    #[error(transparent)]
    Panicked(#[from] Panicked),
    /// A mistake in this crate.
    #[error("{0}")]
    Bug(&'static str),
}

impl From<QueryError> for LinkError {
    fn from(error: QueryError) -> Self {
        DatabaseError::from(error).into()
    }
}

impl From<VersionError> for LinkError {
    fn from(error: VersionError) -> Self {
        match error {
            VersionError::Changed => Self::UploadChanged(None),
            VersionError::Missing => Self::NotUploaded,
            VersionError::Storage(error) => error.into(),
        }
    }
}

impl From<NotRecovered> for LinkError {
    fn from(error: NotRecovered) -> Self {
        match error {
            NotRecovered::Failed(error) => error.into(),
            NotRecovered::Lost(_image, standing) => standing.into(),
        }
    }
}

/// Why an image could not be claimed, or was lost.
impl From<Standing> for LinkError {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Missing => Self::ImageNotFound,
            Standing::Forbidden => Self::Forbidden,
            Standing::Linked(..) => Self::AlreadyLinked,
            // Pending means that another attempt has released the image in this moment.
            Standing::LinkInProgress | Standing::Pending => Self::LinkInProgress,
            Standing::UploadInProgress => Self::UploadInProgress,
            Standing::Expired => Self::Expired,
            Standing::Refused(refusal) => Self::Refused(refusal),
        }
    }
}
