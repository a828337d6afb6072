//! An answer as server-sent events, or gathered into one body.
//!
//! A stream that ended well ends with `[DONE]`; one that broke ends with an error event and never has it. While nothing
//! happens (waiting for a slot, reading a long prompt) a comment goes out now and then, so that nobody on the way takes
//! the connection for dead. Who can go on with the stream elsewhere is told where it stands ([`super::relay`]); a stream
//! that is handed over just ends, without `[DONE]` and without an error.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{Stream, unfold};
use rbee_api::openai::{DONE, FinishReason, Usage};
use rbee_api::{ApiError, ErrorCode};
use rbee_runtime::http::HttpError;

use super::answer::{Answer, Json};
use super::choice::{Choice, Step, Told};
use super::relay;

/// Silence after which a comment is sent.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Streams the answer. There is at least one choice; `prompt_tokens` are those of all prompts.
pub(super) fn events(
    answer: Answer,
    choices: Vec<Choice>,
    prompt_tokens: u64,
    with_usage: bool,
    correlation_id: Option<String>,
) -> Response {
    let stream = Streaming::new(answer, choices, prompt_tokens, with_usage, correlation_id);
    // Who is told of the engine's progress must not take our own heartbeat for it.
    let is_told = stream.choices.iter().any(|choice| choice.place.is_told());
    let sse = Sse::new(stream.into_events());
    let mut response = if is_told {
        sse.into_response()
    } else {
        sse.keep_alive(KeepAlive::new().interval(HEARTBEAT).text("waiting")).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies of the nginx kind would otherwise gather the events.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// One event on the wire.
#[derive(Debug, Default, PartialEq, Eq)]
struct Block {
    comment: Option<String>,
    data: Option<String>,
}

impl Block {
    fn comment(text: &str) -> Self {
        Self { comment: Some(text.to_owned()), data: None }
    }

    fn into_event(self) -> SseEvent {
        let event = SseEvent::default();
        let event = self.comment.iter().fold(event, |event, comment| event.comment(comment));
        self.data.iter().fold(event, |event, data| event.data(data))
    }
}

struct Streaming {
    answer: Answer,
    choices: Vec<Choice>,
    /// Which of them is listened to first, so that none waits for another.
    first: usize,
    /// How many of them have ended.
    ended: usize,
    /// Whether no more comes of any of them.
    over: bool,
    prompt_tokens: u64,
    with_usage: bool,
    correlation_id: Option<String>,
    pending: VecDeque<Block>,
}

impl Streaming {
    fn new(
        answer: Answer,
        choices: Vec<Choice>,
        prompt_tokens: u64,
        with_usage: bool,
        correlation_id: Option<String>,
    ) -> Self {
        let (first, ended, over, pending) = (0, 0, false, VecDeque::new());
        let mut stream =
            Self { answer, choices, first, ended, over, prompt_tokens, with_usage, correlation_id, pending };
        for nth in 0..stream.choices.len() {
            let choice = &stream.choices[nth];
            if let Some(opening) = stream.answer.opening(choice.index).filter(|_| !choice.place.is_begun()) {
                stream.push_of_choice(nth, opening);
            }
        }
        stream
    }

    fn into_events(self) -> impl Stream<Item = Result<SseEvent, Infallible>> {
        unfold(self, |mut streaming| async move {
            let block = streaming.next().await?;
            Some((Ok(block.into_event()), streaming))
        })
    }

    async fn next(&mut self) -> Option<Block> {
        loop {
            if let Some(block) = self.pending.pop_front() {
                return Some(block);
            }
            if self.over {
                return None;
            }
            let (nth, step) = std::future::poll_fn(|context| self.poll(context)).await;
            self.take(nth, step);
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<(usize, Step)> {
        let count = self.choices.len();
        for nth in (self.first..count).chain(0..self.first) {
            if let Poll::Ready(Some(step)) = self.choices[nth].poll(context) {
                self.first = (nth + 1) % count;
                return Poll::Ready((nth, step));
            }
        }
        Poll::Pending
    }

    fn take(&mut self, nth: usize, step: Step) {
        match step {
            Step::More(told) => self.tell(nth, told, None),
            Step::Progress => self.pending.push_back(Block::comment(relay::PROGRESS)),
            Step::Handover => {
                self.pending.push_back(Block::comment(relay::HANDOVER));
                self.over = true;
            }
            Step::Ended(told, reason) => {
                self.close(nth, told, reason);
                self.ended += 1;
                if self.ended == self.choices.len() {
                    self.finish();
                }
            }
            Step::Failed(error) => self.fail(&error),
        }
    }

    fn tell(&mut self, nth: usize, told: Told, reason: Option<FinishReason>) {
        let json = self.answer.event(self.choices[nth].index, told, reason);
        self.push_of_choice(nth, json);
    }

    /// What came last, and then why it ended, apart: so clients expect it.
    fn close(&mut self, nth: usize, told: Told, reason: FinishReason) {
        if self.choices[nth].place.is_finished() {
            return;
        }
        if told != Told::default() {
            self.tell(nth, told, None);
        }
        self.tell(nth, Told::default(), Some(reason));
    }

    fn finish(&mut self) {
        if self.with_usage {
            let usage = usage(self.prompt_tokens, self.choices.iter().map(|choice| choice.usage));
            self.push(self.answer.usage(usage), None);
        }
        self.end(DONE.to_owned());
    }

    fn push_of_choice(&mut self, nth: usize, json: Json) {
        let comment = self.choices[nth].place.comment();
        self.push(json, comment);
    }

    fn push(&mut self, json: Json, comment: Option<String>) {
        match json {
            Ok(data) => self.pending.push_back(Block { comment, data: Some(data) }),
            Err(error) => self.fail(&ApiError::new(ErrorCode::Internal, error.to_string())),
        }
    }

    fn fail(&mut self, error: &ApiError) {
        match serde_json::to_string(&error.to_body(self.correlation_id.as_deref())) {
            Ok(data) => self.end(data),
            // Then the stream ends without a last event, which is not success either.
            Err(_) => self.over = true,
        }
    }

    fn end(&mut self, last: String) {
        if !self.over {
            self.over = true;
            self.pending.push_back(Block { comment: None, data: Some(last) });
        }
    }
}

/// A prompt counts once, however many answers it gets.
fn usage(prompt_tokens: u64, of_choices: impl Iterator<Item = Usage>) -> Usage {
    Usage::new(prompt_tokens, of_choices.map(|usage| usage.completion_tokens).sum())
}

/// The answer as one body.
pub(super) async fn whole(answer: Answer, choices: Vec<Choice>, prompt_tokens: u64) -> Result<Response, HttpError> {
    let (mut all, mut usages) = (Vec::with_capacity(choices.len()), Vec::new());
    for choice in choices {
        let (index, told, reason, usage) = choice.whole().await?;
        all.push((index, told, reason));
        usages.push(usage);
    }
    let body = answer.whole(all, usage(prompt_tokens, usages.into_iter()));
    let body = body.map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use serde_json::Value;

    use super::*;
    use crate::engine::Token;
    use crate::http::answer::Kind;
    use crate::http::relay::Place;
    use crate::job::{Event, Piece};

    async fn blocks(kind: Kind, place: Place, events: Vec<Event>, include_usage: bool) -> Vec<Block> {
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        for event in events {
            sender.send(event).await.unwrap();
        }
        drop(sender);
        let choices = vec![Choice::new(0, receiver, place, None)];
        let stream = Streaming::new(Answer::new(kind, "m", include_usage), choices, 3, include_usage, None);
        let all = unfold(stream, |mut stream| async move { Some((stream.next().await?, stream)) });
        all.collect().await
    }

    async fn data(kind: Kind, events: Vec<Event>, include_usage: bool) -> Vec<String> {
        let blocks = blocks(kind, Place::default(), events, include_usage).await;
        blocks.into_iter().filter_map(|block| block.data).collect()
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

    fn comments(blocks: &[Block]) -> Vec<&str> {
        blocks.iter().map(|block| block.comment.as_deref().unwrap_or("none")).collect()
    }

    fn token(id: i32, text: &str) -> Event {
        Event::Piece(Piece { tokens: vec![Token(id)], text: text.into(), ..Piece::default() })
    }

    /// WORK-13.
    #[tokio::test]
    async fn who_can_go_on_elsewhere_is_told_where_it_stands() {
        let events = vec![Event::Progress, token(7, "né"), token(8, ""), done()];
        let blocks = blocks(Kind::Chat, Place::new(0, true, None), events, true).await;
        let expected = ["rbee 0 - 0", "rbee progress", "rbee 0 7,8 3", "rbee 0 - 3", "none", "none"];
        assert_eq!(comments(&blocks), expected);
        assert_eq!(blocks[1].data, None);
    }

    /// WORK-12.
    #[tokio::test]
    async fn an_answer_begun_elsewhere_has_no_second_opening_and_repeats_no_text() {
        let again = Event::Piece(Piece { text: "nép".into(), ..Piece::default() });
        let blocks = blocks(Kind::Chat, Place::new(0, true, Some(3)), vec![again, token(9, "al"), done()], false).await;
        assert_eq!(comments(&blocks), ["rbee 0 9 6", "rbee 0 - 6", "none"]);
        assert!(blocks[0].data.as_ref().unwrap().contains(r#""content":"pal""#), "{blocks:?}");
    }

    /// WORK-13.
    #[tokio::test]
    async fn a_stream_handed_over_ends_without_a_word_to_the_client() {
        let blocks = blocks(Kind::Text, Place::new(0, true, None), vec![token(1, "a"), Event::Handover], false).await;
        assert_eq!(comments(&blocks), ["rbee 0 1 1", "rbee handover"]);
        assert_eq!(blocks[1].data, None);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_with_comments() {
        let (_sender, receiver) = tokio::sync::mpsc::channel(1);
        let choices = vec![Choice::new(0, receiver, Place::default(), None)];
        let response = events(Answer::new(Kind::Text, "m", false), choices, 0, false, None);
        let begin = tokio::time::Instant::now();
        let mut body = response.into_body().into_data_stream();
        for beat in 1..=3 {
            assert_eq!(body.next().await.unwrap().unwrap(), ": waiting\n\n");
            assert_eq!(begin.elapsed().as_secs(), beat * HEARTBEAT.as_secs());
        }
    }
}
