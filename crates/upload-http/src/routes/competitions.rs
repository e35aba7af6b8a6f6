//! Competitions and their posters.

use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use upload_domain::CompetitionId;
use upload_link::{Linked, Poster};
use upload_persistence::{
    competitions::{self, NewCompetition},
    poster_images,
};
use utoipa::{ToSchema, openapi::Object};
use uuid::Uuid;

use super::{
    ByCaller, LINK, NOT_PENDING,
    users::{LinkImage, link_example},
};
use crate::{
    ApiError, Code, Operation, Shared, schemas,
    views::{CompetitionPosterImage, CompetitionView, LinkedImage},
};

/// Longest title, in characters.
const MAX_TITLE: usize = 200;

/// The competition to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CreateCompetition {
    #[schema(schema_with = title)]
    title: String,
}

#[derive(Serialize, ToSchema)]
struct CompetitionBody {
    competition: CompetitionView,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PosterBody {
    competition_poster_image: CompetitionPosterImage,
}

fn title() -> Object {
    schemas::bounded_text(1, MAX_TITLE)
}

/// The group of these routes.
const TAG: &str = "Competitions";

pub(super) fn create_operation() -> Operation {
    Operation::new(TAG, "createCompetition", "Create a competition, as its host")
        .description("For users whose role is ADMIN or HOST.")
        .bearer()
        .json::<CreateCompetition>(&[("competition", json!({ "title": "Spring open" }))])
        .answers::<CompetitionBody>(StatusCode::CREATED, "The competition, without a poster.")
        .database()
}

pub(super) fn link_poster_operation() -> Operation {
    Operation::new(TAG, "createPosterImage", "Link an image to a competition as its poster")
        .description("An ADMIN can do this for every competition, a HOST for their own. The image's `path` must be `competition`.")
        .bearer()
        .json::<LinkImage>(&[link_example()])
        .answers::<PosterBody>(StatusCode::CREATED, "The image is linked and replaces the earlier poster.")
        .answers::<PosterBody>(StatusCode::OK, "The image was already linked to this competition; nothing changed.")
        .refuses(NOT_PENDING)
        .refuses(LINK)
        .refuses(&[Code::CompetitionNotFound])
        .database()
}

pub(super) fn show_operation() -> Operation {
    Operation::new(TAG, "getCompetition", "Read a competition")
        .answers::<CompetitionBody>(StatusCode::OK, "The competition and its poster.")
        .refuses(&[Code::CompetitionNotFound])
        .database()
}

/// `POST /admin/competitions`: the caller hosts it.
pub(super) async fn create(
    ByCaller { caller, body }: ByCaller<CreateCompetition>,
    shared: Data<Shared>,
) -> Result<HttpResponse, ApiError> {
    // Postgres accepts every character in a text except U+0000.
    if !(1..=MAX_TITLE).contains(&body.title.chars().count()) || body.title.contains('\0') {
        let detail = format!("The title must have 1 to {MAX_TITLE} characters and must not contain U+0000.");
        return Err(ApiError::invalid_request(detail));
    }
    let new = NewCompetition { id: Uuid::now_v7().into(), title: &body.title, host_user_id: caller.user_id };
    let mut connection = shared.database.connection().await?;
    let competition = competitions::insert(&mut connection, &new).await?.ok_or_else(ApiError::forbidden)?;
    Ok(HttpResponse::Created().json(CompetitionBody { competition: CompetitionView::new(competition, None) }))
}

/// `POST /admin/competitions/{id}/poster-image`: links an image as the poster, in place of the one before.
pub(super) async fn link_poster(
    ByCaller { caller, body }: ByCaller<LinkImage>,
    shared: Data<Shared>,
    id: Path<CompetitionId>,
) -> Result<HttpResponse, ApiError> {
    let linked = shared.links.link(caller.user_id, body.image_entity_id, Poster(id.into_inner())).await?;
    let (mut response, row) = match linked {
        Linked::Now(row) => (HttpResponse::Created(), row),
        Linked::Before(row) => (HttpResponse::Ok(), row),
    };
    Ok(response.json(PosterBody { competition_poster_image: row.into() }))
}

/// `GET /competitions/{id}`.
pub(super) async fn show(shared: Data<Shared>, id: Path<CompetitionId>) -> Result<HttpResponse, ApiError> {
    let mut connection = shared.database.connection().await?;
    let competition = competitions::find(&mut connection, *id).await?.ok_or_else(ApiError::competition_not_found)?;
    let poster = poster_images::find_live(&mut connection, *id).await?;
    let poster = poster.map(|(_link, image)| LinkedImage::new(&shared, &image));
    Ok(HttpResponse::Ok().json(CompetitionBody { competition: CompetitionView::new(competition, poster) }))
}
