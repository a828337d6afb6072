//! The bearer token, compared in constant time.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue};
use rbee_api::{ApiError, ErrorCode};

use super::HttpError;
use crate::token::Token;

/// Lets only requests with this bearer token through to `router`'s routes. Routes merged later are not covered.
pub fn require_token(router: Router, token: Token) -> Router {
    router.route_layer(middleware::from_fn_with_state(token, check))
}

async fn check(State(token): State<Token>, request: Request, next: Next) -> Response {
    let problem = match bearer(request.headers()) {
        Some(given) if token.matches(given) => return next.run(request).await,
        Some(_) => "the bearer token is wrong",
        None => "this needs a bearer token (`Authorization: Bearer TOKEN`)",
    };
    let mut response = HttpError(ApiError::new(ErrorCode::Unauthorized, problem)).into_response();
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
