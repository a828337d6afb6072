//! An answer as server-sent events, or gathered into one body.
//!
//! A stream that ended well ends with `[DONE]`; one that broke ends with an error event and never has it. While nothing
//! happens (waiting for a slot, reading a long prompt) a comment goes out now and then, so that nobody on the way takes
//! the connection for dead.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{Stream, unfold};
use rbee_api::openai::DONE;
use rbee_api::{ApiError, ErrorCode};
use rbee_runtime::http::HttpError;
use tokio::sync::mpsc::Receiver;

use super::answer::{Answer, Json};
use super::service::engine_is_gone;
use crate::job::Event;

/// Silence after which a comment is sent.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Streams the answer.
pub(super) fn events(
    answer: Answer,
    receiver: Receiver<Event>,
    include_usage: bool,
    correlation_id: Option<String>,
) -> Response {
    let stream =
        Streaming { answer, receiver: Some(receiver), include_usage, correlation_id, pending: VecDeque::new() };
    let heartbeat = KeepAlive::new().interval(HEARTBEAT).text("waiting");
    let mut response = Sse::new(stream.into_events()).keep_alive(heartbeat).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies of the nginx kind would otherwise gather the events.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

struct Streaming {
    answer: Answer,
    /// Gone when the answer has ended.
    receiver: Option<Receiver<Event>>,
    include_usage: bool,
    correlation_id: Option<String>,
    pending: VecDeque<String>,
}

impl Streaming {
    fn into_events(mut self) -> impl Stream<Item = Result<SseEvent, Infallible>> {
        if let Some(opening) = self.answer.opening() {
            self.push(opening);
        }
        unfold(self, |mut streaming| async move {
            let data = streaming.next().await?;
            Some((Ok(SseEvent::default().data(data)), streaming))
        })
    }

    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(data) = self.pending.pop_front() {
                return Some(data);
            }
            let event = self.receiver.as_mut()?.recv().await;
            self.take(event.unwrap_or_else(|| Event::Failed(engine_is_gone())));
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Piece(piece) => {
                let (text, next) = self.gather(piece.text);
                self.push(self.answer.piece(text));
                if let Some(next) = next {
                    self.take(next);
                }
            }
            Event::Done { reason, usage } => {
                self.push(self.answer.closing(reason));
                if self.include_usage {
                    self.push(self.answer.usage(usage));
                }
                self.end(DONE.to_owned());
            }
            Event::Progress => {}
            Event::Handover => self.fail(&going_down()),
            Event::Failed(error) => self.fail(&error),
        }
    }

    /// Joins what has come meanwhile: a slow reader gets fewer, larger events.
    fn gather(&mut self, mut text: String) -> (String, Option<Event>) {
        while let Some(Ok(event)) = self.receiver.as_mut().map(Receiver::try_recv) {
            match event {
                Event::Piece(more) => text.push_str(&more.text),
                other => return (text, Some(other)),
            }
        }
        (text, None)
    }

    fn push(&mut self, json: Json) {
        match json {
            Ok(data) => self.pending.push_back(data),
            Err(error) => self.fail(&ApiError::new(ErrorCode::Internal, error.to_string())),
        }
    }

    fn fail(&mut self, error: &ApiError) {
        match serde_json::to_string(&error.to_body(self.correlation_id.as_deref())) {
            Ok(data) => self.end(data),
            // Then the stream ends without a last event, which is not success either.
            Err(_) => self.receiver = None,
        }
    }

    fn end(&mut self, last: String) {
        if self.receiver.take().is_some() {
            self.pending.push_back(last);
        }
    }
}

/// The answer as one body.
pub(super) async fn whole(answer: Answer, mut receiver: Receiver<Event>) -> Result<Response, HttpError> {
    let mut text = String::new();
    loop {
        match receiver.recv().await {
            Some(Event::Piece(more)) => text.push_str(&more.text),
            Some(Event::Progress) => {}
            Some(Event::Done { reason, usage }) => {
                let body = answer.whole(text, reason, usage);
                let body = body.map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
                return Ok(([(CONTENT_TYPE, "application/json")], body).into_response());
            }
            Some(Event::Handover) => return Err(going_down().into()),
            Some(Event::Failed(error)) => return Err(error.into()),
            None => return Err(engine_is_gone().into()),
        }
    }
}

fn going_down() -> ApiError {
    ApiError::new(ErrorCode::ShuttingDown, "the answer is not complete: the worker goes down")
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use rbee_api::openai::{FinishReason, Usage};
    use serde_json::Value;

    use super::*;
    use crate::http::answer::Kind;
    use crate::job::Piece;

    async fn data(kind: Kind, events: Vec<Event>, include_usage: bool) -> Vec<String> {
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        for event in events {
            sender.send(event).await.unwrap();
        }
        drop(sender);
        let answer = Answer::new(kind, "m");
        let mut stream = Streaming {
            answer,
            receiver: Some(receiver),
            include_usage,
            correlation_id: None,
            pending: VecDeque::new(),
        };
        let opening = stream.answer.opening();
        opening.into_iter().for_each(|json| stream.push(json));
        let all = unfold(stream, |mut stream| async move { Some((stream.next().await?, stream)) });
        all.collect().await
    }

    fn text(text: &str) -> Event {
        Event::Piece(Piece { text: text.into(), ..Piece::default() })
    }

    fn done() -> Event {
        Event::Done { reason: FinishReason::Length, usage: Usage::new(3, 2) }
    }

    #[tokio::test]
    async fn a_good_chat_stream_has_role_text_reason_usage_and_done() {
        let data = data(Kind::Chat, vec![text("a"), text("b"), done()], true).await;
        let json: Vec<Value> = data.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert_eq!(json[0]["choices"][0]["delta"]["role"], "assistant");
        assert_eq!(json[1]["choices"][0]["delta"]["content"], "ab");
        assert_eq!(json[2]["choices"][0]["finish_reason"], "length");
        assert_eq!((&json[3]["choices"], &json[3]["usage"]["total_tokens"]), (&Value::Array(vec![]), &5.into()));
        assert_eq!((data.len(), data[4].as_str()), (5, DONE));
    }

    #[tokio::test]
    async fn a_text_stream_has_no_opening_and_usage_only_when_asked() {
        let data = data(Kind::Text, vec![text("a"), done()], false).await;
        assert_eq!(data.len(), 3, "{data:?}");
        assert!(data[0].contains(r#""text":"a""#) && data[1].contains("length"), "{data:?}");
    }

    #[tokio::test]
    async fn a_broken_stream_says_so_and_is_never_done() {
        let failed = Event::Failed(ApiError::new(ErrorCode::WorkerFailed, "x"));
        for events in [vec![text("a"), failed], vec![text("a")]] {
            let data = data(Kind::Chat, events, true).await;
            assert!(data.iter().all(|line| line != DONE), "{data:?}");
            let last: Value = serde_json::from_str(data.last().unwrap()).unwrap();
            assert_eq!(last["error"]["code"], "worker_failed");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_with_comments() {
        let (_sender, receiver) = tokio::sync::mpsc::channel(1);
        let response = events(Answer::new(Kind::Text, "m"), receiver, false, None);
        let begin = tokio::time::Instant::now();
        let mut body = response.into_body().into_data_stream();
        for beat in 1..=3 {
            assert_eq!(body.next().await.unwrap().unwrap(), ": waiting\n\n");
            assert_eq!(begin.elapsed().as_secs(), beat * HEARTBEAT.as_secs());
        }
    }
}
