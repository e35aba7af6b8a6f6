//! Who calls: the subject of the request's bearer token.

use actix_web::{FromRequest, HttpRequest, dev::Payload, web};
use futures::{
    FutureExt as _,
    future::{Either, LocalBoxFuture, Ready, ready},
};
use upload_domain::UserId;

use crate::{ApiError, Shared};

/// The user whose token a request carries, and whose request the rate limits let pass. As a handler's first argument it is checked
/// before a body is read.
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
            if let Some(address) = address {
                shared.rate_limits.count_address(address).await?;
            }
            let caller = caller?;
            shared.rate_limits.count_user(caller.user_id).await?;
            Ok(caller)
        };
        Either::Right(count.boxed_local())
    }
}
