//! Competitions and their posters.

use actix_web::{
    HttpResponse,
    web::{Data, Json, Path},
};
use serde::{Deserialize, Serialize};
use upload_domain::CompetitionId;
use upload_persistence::{
    competitions::{self, NewCompetition},
    poster_images,
};
use uuid::Uuid;

use super::users::LinkImage;
use crate::{
    ApiError, Caller, Shared,
    link::{Linked, Poster, competition_not_found, link},
    views::{CompetitionPosterImage, CompetitionView, LinkedImage},
};

/// Longest title, in characters.
const MAX_TITLE: usize = 200;

/// A competition to be.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CreateCompetition {
    title: String,
}

#[derive(Serialize)]
struct CompetitionBody {
    competition: CompetitionView,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PosterBody {
    competition_poster_image: CompetitionPosterImage,
}

/// `POST /admin/competitions`: the caller hosts it.
pub(super) async fn create(
    caller: Caller,
    shared: Data<Shared>,
    body: Json<CreateCompetition>,
) -> Result<HttpResponse, ApiError> {
    // Postgres takes every character in a text but U+0000.
    if !(1..=MAX_TITLE).contains(&body.title.chars().count()) || body.title.contains('\0') {
        let detail = format!("The title must have 1 to {MAX_TITLE} characters, none of them U+0000.");
        return Err(ApiError::invalid_request(detail));
    }
    let new = NewCompetition { id: Uuid::now_v7().into(), title: &body.title, host_user_id: caller.user_id };
    let mut connection = shared.database.connection().await?;
    let competition = competitions::insert(&mut connection, &new).await?.ok_or_else(ApiError::forbidden)?;
    Ok(HttpResponse::Created().json(CompetitionBody { competition: CompetitionView::new(competition, None) }))
}

/// `POST /admin/competitions/{id}/poster-image`: links an image as the poster, in place of the one before.
pub(super) async fn link_poster(
    caller: Caller,
    shared: Data<Shared>,
    id: Path<CompetitionId>,
    body: Json<LinkImage>,
) -> Result<HttpResponse, ApiError> {
    let pipeline = link(Shared::clone(&shared), caller, body.image_entity_id, Poster(id.into_inner()));
    let (mut response, row) = match shared.background.run(pipeline).await? {
        Linked::Now(row) => (HttpResponse::Created(), row),
        Linked::Before(row) => (HttpResponse::Ok(), row),
    };
    Ok(response.json(PosterBody { competition_poster_image: row.into() }))
}

/// `GET /competitions/{id}`.
pub(super) async fn show(shared: Data<Shared>, id: Path<CompetitionId>) -> Result<HttpResponse, ApiError> {
    let mut connection = shared.database.connection().await?;
    let competition = competitions::find(&mut connection, *id).await?.ok_or_else(competition_not_found)?;
    let poster = poster_images::find_live(&mut connection, *id).await?;
    let poster = poster.map(|(_link, image)| LinkedImage::new(&shared, &image));
    Ok(HttpResponse::Ok().json(CompetitionBody { competition: CompetitionView::new(competition, poster) }))
}
