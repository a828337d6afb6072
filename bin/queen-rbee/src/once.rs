//! A change asked for twice is made once: the `Idempotency-Key` of a request, and the orders remembered by theirs.
//!
//! What is remembered stands in the store with what it ordered, in one transaction: it holds over queen's death too, when
//! nobody knows whether the order was carried out.

use std::collections::VecDeque;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rbee_api::{ApiError, ErrorCode, IDEMPOTENCY_KEY_HEADER};
use rbee_runtime::http::HttpError;
use serde::{Deserialize, Serialize};

use crate::orders::{Order, Ordered};

/// Orders remembered; the oldest is forgotten first.
const REMEMBERED_MAX: usize = 64;
/// Longest key.
const KEY_BYTES_MAX: usize = 128;

tokio::task_local! {
    static KEY: Option<String>;
}

/// The key of the request that is being answered.
#[must_use]
pub fn current_key() -> Option<String> {
    KEY.try_with(Clone::clone).ok().flatten()
}

/// Lets handlers know the key of their request.
pub async fn note_key(request: Request, next: Next) -> Response {
    let key = match request.headers().get(IDEMPOTENCY_KEY_HEADER).map(|key| key.to_str()) {
        None => None,
        Some(Ok(key)) if !key.is_empty() && key.len() <= KEY_BYTES_MAX => Some(key.to_owned()),
        Some(_) => {
            let message = format!("an {IDEMPOTENCY_KEY_HEADER} has 1 to {KEY_BYTES_MAX} visible ASCII characters");
            let error = ApiError::new(ErrorCode::InvalidParameter, message).with_param(IDEMPOTENCY_KEY_HEADER);
            return HttpError(error).into_response();
        }
    };
    KEY.scope(key, next.run(request)).await
}

/// The last orders that had a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Remembered(VecDeque<Entry>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    key: String,
    order: String,
    ordered: Ordered,
}

impl Remembered {
    /// What came of the order when it was given first.
    ///
    /// # Errors
    /// The key was another order's.
    pub fn find(&self, key: &str, order: &Order) -> Result<Option<Ordered>, ApiError> {
        let Some(entry) = self.0.iter().find(|entry| entry.key == key) else { return Ok(None) };
        if entry.order != word(order) {
            let message = format!("the {IDEMPOTENCY_KEY_HEADER} `{key}` was another request's");
            return Err(ApiError::new(ErrorCode::Conflict, message).with_param(IDEMPOTENCY_KEY_HEADER));
        }
        Ok(Some(entry.ordered.clone()))
    }

    /// Remembers what came of an order.
    pub fn add(&mut self, key: String, order: &Order, ordered: Ordered) {
        if self.0.len() >= REMEMBERED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Entry { key, order: word(order), ordered });
    }
}

/// Tells one order from another.
fn word(order: &Order) -> String {
    format!("{order:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(replicas: u32) -> Order {
        Order::Scale { name: "a".into(), replicas }
    }

    fn ordered(since: u64) -> Ordered {
        Ordered { changed: true, targets: Vec::new(), since, rolling: None }
    }

    /// KEEP-13
    #[test]
    fn a_key_stands_for_one_order_until_it_is_forgotten() {
        let mut remembered = Remembered::default();
        remembered.add("k".into(), &scale(1), ordered(7));
        assert_eq!(remembered.find("k", &scale(1)).unwrap(), Some(ordered(7)));
        assert_eq!(remembered.find("k", &scale(2)).unwrap_err().code, ErrorCode::Conflict);
        assert_eq!(remembered.find("other", &scale(2)).unwrap(), None);
        let text = serde_json::to_string(&remembered).unwrap();
        assert_eq!(serde_json::from_str::<Remembered>(&text).unwrap(), remembered, "it is kept in the store");
        for number in 0..REMEMBERED_MAX {
            remembered.add(format!("k{number}"), &scale(1), ordered(0));
        }
        assert_eq!(remembered.find("k", &scale(1)).unwrap(), None);
        assert_eq!(remembered.0.len(), REMEMBERED_MAX);
    }
}
