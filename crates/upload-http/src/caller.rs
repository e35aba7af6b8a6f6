//! Who calls: the subject of the request's bearer token.

use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpRequest, dev::Payload, web};
use upload_domain::UserId;

use crate::{ApiError, Shared};

/// The user whose token a request carries. As a handler's first argument it is checked before a body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The token's subject.
    pub user_id: UserId,
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let Some(shared) = request.app_data::<web::Data<Shared>>() else {
            return ready(Err(ApiError::internal("the application data is missing")));
        };
        ready(shared.tokens.verify(request))
    }
}
