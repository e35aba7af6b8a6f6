//! Who calls: the subject of the request's bearer token.

use actix_web::{FromRequest, HttpRequest, dev::Payload, web};
use futures::{
    FutureExt as _,
    future::{Either, LocalBoxFuture, Ready, ready},
};
use upload_domain::UserId;

use crate::{ApiError, Shared};

/// The user whose token a request carries, and whose request the rate limits let pass.
///
/// All arguments of a handler are made at the same time, and this one may have to wait for Redis. So a handler with a JSON body takes the
/// routes' own `ByCaller`, which reads no body before the caller is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The token's subject.
    pub user_id: UserId,
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Either<Ready<Result<Self, ApiError>>, LocalBoxFuture<'static, Result<Self, ApiError>>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let Some(shared) = request.app_data::<web::Data<Shared>>() else {
            return Either::Left(ready(Err(ApiError::internal("the application data is missing"))));
        };
        let caller = shared.tokens.verify(request);
        if !shared.rate_limits.is_set() {
            return Either::Left(ready(caller));
        }
        let (shared, address) = (shared.clone(), shared.client_address(request));
        let count = async move {
            // A request with a wrong token counts, too.
            shared.rate_limits.count(address, caller.as_ref().ok().map(|caller| caller.user_id)).await?;
            caller
        };
        Either::Right(count.boxed_local())
    }
}
