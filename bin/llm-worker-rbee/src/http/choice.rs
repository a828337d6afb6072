//! One choice of an answer on its way from the engine to the client: text becomes content and calls, what the client has
//! already is left out.

use std::task::{Context, Poll};

use rbee_api::ApiError;
use rbee_api::openai::{FinishReason, FunctionDelta, ToolCallDelta, Usage};
use serde_json::Value;
use tokio::sync::mpsc::Receiver;

use super::logprobs::Writer;
use super::relay::Place;
use super::service::engine_is_gone;
use crate::job::{Event, Piece};
use crate::logprobs::Logprobs;
use crate::tools::parse::{Output, Parser};

/// More of a message.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Part {
    pub(super) content: String,
    pub(super) calls: Vec<ToolCallDelta>,
}

impl Part {
    fn is_empty(&self) -> bool {
        self.content.is_empty() && self.calls.is_empty()
    }
}

/// More of a message, and how likely its tokens were.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Told {
    pub(super) part: Part,
    pub(super) logprobs: Option<Value>,
}

/// What happens to a choice, as its client sees it.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    More(Told),
    Progress,
    Handover,
    /// The rest of it, and its end.
    Ended(Told, FinishReason),
    Failed(ApiError),
}

/// Reads calls out of the text.
struct Calls {
    parser: Parser,
    prefix: String,
    count: u32,
}

/// One choice.
pub(super) struct Choice {
    pub(super) index: u32,
    pub(super) place: Place,
    /// Gone when it has ended.
    receiver: Option<Receiver<Event>>,
    /// Came right behind text, and has its turn after it.
    behind: Option<Event>,
    calls: Option<Calls>,
    writer: Option<Writer>,
    /// Of tokens whose text has not come yet.
    logprobs: Vec<Logprobs>,
    /// Tokens it took, when it has ended.
    pub(super) usage: Usage,
}

impl Choice {
    pub(super) fn new(index: u32, receiver: Receiver<Event>, place: Place, writer: Option<Writer>) -> Self {
        let (receiver, logprobs, usage) = (Some(receiver), Vec::new(), Usage::default());
        Self { index, place, receiver, behind: None, calls: None, writer, logprobs, usage }
    }

    /// Reads calls out of its text; their ids begin with `prefix`.
    pub(super) fn with_calls(mut self, parser: Parser, prefix: String) -> Self {
        self.calls = Some(Calls { parser, prefix: format!("{prefix}{:02}", self.index), count: 0 });
        self
    }

    /// What comes next; ready with `None` when it has ended.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Step>> {
        loop {
            if let Some(step) = self.behind.take().and_then(|event| self.take(event)) {
                return Poll::Ready(Some(step));
            }
            let Some(receiver) = &mut self.receiver else { return Poll::Ready(None) };
            let Poll::Ready(event) = receiver.poll_recv(context) else { return Poll::Pending };
            if let Some(step) = self.take(event.unwrap_or_else(|| Event::Failed(engine_is_gone()))) {
                return Poll::Ready(Some(step));
            }
        }
    }

    /// As [`Choice::poll`], for who waits for nothing else.
    pub(super) async fn next(&mut self) -> Option<Step> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn take(&mut self, event: Event) -> Option<Step> {
        match event {
            Event::Piece(piece) => {
                let mut part = Part::default();
                self.read(piece, &mut part);
                let next = self.gather(&mut part);
                self.more_and(part, next)
            }
            Event::Progress => Some(Step::Progress),
            Event::Handover => {
                self.receiver = None;
                Some(Step::Handover)
            }
            Event::Done { reason, usage } => Some(self.end(Part::default(), reason, usage)),
            Event::Failed(error) => {
                self.receiver = None;
                Some(Step::Failed(error))
            }
        }
    }

    /// Joins what has come meanwhile: a slow reader gets fewer, larger events.
    fn gather(&mut self, part: &mut Part) -> Option<Event> {
        while let Some(Ok(event)) = self.receiver.as_mut().map(Receiver::try_recv) {
            match event {
                Event::Piece(piece) => self.read(piece, part),
                other => return Some(other),
            }
        }
        None
    }

    /// Text, and what came right behind it.
    fn more_and(&mut self, part: Part, next: Option<Event>) -> Option<Step> {
        match next {
            Some(Event::Done { reason, usage }) => Some(self.end(part, reason, usage)),
            next if part.is_empty() => next.and_then(|next| self.take(next)),
            next => {
                self.behind = next;
                Some(Step::More(self.told(part)))
            }
        }
    }

    fn end(&mut self, mut part: Part, reason: FinishReason, usage: Usage) -> Step {
        self.receiver = None;
        self.usage = usage;
        let outputs = self.calls.as_mut().map(|calls| calls.parser.finish()).unwrap_or_default();
        self.add(outputs, &mut part);
        let called = self.calls.as_ref().is_some_and(|calls| calls.count > 0);
        let reason = if called && reason == FinishReason::Stop { FinishReason::ToolCalls } else { reason };
        Step::Ended(self.told(part), reason)
    }

    fn told(&mut self, part: Part) -> Told {
        let logprobs = std::mem::take(&mut self.logprobs);
        Told { part, logprobs: self.writer.as_mut().and_then(|writer| writer.write(&logprobs)) }
    }

    fn read(&mut self, mut piece: Piece, part: &mut Part) {
        self.logprobs.append(&mut piece.logprobs);
        let (known, new) = self.place.take(piece);
        match &mut self.calls {
            None => part.content.push_str(&new),
            Some(calls) => {
                // Read again for where it leads, not to be told.
                let known = calls.parser.push(&known);
                self.add(known, &mut Part::default());
                let outputs = self.calls.as_mut().map(|calls| calls.parser.push(&new)).unwrap_or_default();
                self.add(outputs, part);
            }
        }
    }

    fn add(&mut self, outputs: Vec<Output>, part: &mut Part) {
        let Some(calls) = &mut self.calls else { return };
        for output in outputs {
            match output {
                Output::Content(text) => part.content.push_str(&text),
                Output::Call(name) => {
                    part.calls.push(ToolCallDelta {
                        index: calls.count,
                        id: Some(format!("{}{:02}", calls.prefix, calls.count)),
                        kind: Some("function".to_owned()),
                        function: FunctionDelta { name: Some(name), arguments: String::new() },
                    });
                    calls.count += 1;
                }
                Output::Arguments(text) => match part.calls.last_mut() {
                    Some(call) => call.function.arguments.push_str(&text),
                    None => part.calls.push(ToolCallDelta {
                        index: calls.count.saturating_sub(1),
                        function: FunctionDelta { name: None, arguments: text },
                        ..ToolCallDelta::default()
                    }),
                },
            }
        }
    }

    /// The whole choice; told of no progress.
    pub(super) async fn whole(mut self) -> Result<(u32, Told, FinishReason, Usage), ApiError> {
        let mut all = Told::default();
        loop {
            match self.next().await {
                Some(Step::More(told)) => join(&mut all, told),
                Some(Step::Ended(told, reason)) => {
                    join(&mut all, told);
                    return Ok((self.index, all, reason, self.usage));
                }
                Some(Step::Progress) => {}
                Some(Step::Handover) => return Err(super::service::going_down()),
                Some(Step::Failed(error)) => return Err(error),
                None => return Err(engine_is_gone()),
            }
        }
    }
}

fn join(all: &mut Told, more: Told) {
    all.part.content.push_str(&more.part.content);
    for call in more.part.calls {
        match all.part.calls.last_mut() {
            Some(last) if last.index == call.index => last.function.arguments.push_str(&call.function.arguments),
            _ => all.part.calls.push(call),
        }
    }
    match (&mut all.logprobs, more.logprobs) {
        (Some(Value::Object(all)), Some(Value::Object(more))) => {
            for (name, values) in more {
                if let (Some(Value::Array(all)), Value::Array(mut values)) = (all.get_mut(&name), values) {
                    all.append(&mut values);
                }
            }
        }
        (all @ None, more) => *all = more,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::Style;

    const CALL: &str = "Look:\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1, 2]}}\n</tool_call>";

    fn pieces(cuts: &[usize]) -> Vec<Event> {
        let mut from = 0;
        let all = cuts.iter().copied().chain([CALL.len()]).map(|cut| {
            let text = CALL[from..cut].to_owned();
            from = cut;
            Event::Piece(Piece { text, ..Piece::default() })
        });
        let done = Event::Done { reason: FinishReason::Stop, usage: Usage::new(1, 2) };
        all.chain([done]).collect()
    }

    /// Runs events one at a time, so that nothing is joined.
    async fn run(place: Place, events: Vec<Event>) -> Vec<Step> {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let mut choice = Choice::new(1, receiver, place, None).with_calls(Parser::new(Style::Tagged), "call_x".into());
        let feed = async move {
            for event in events {
                sender.send(event).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let read = async {
            let mut steps = Vec::new();
            while let Some(step) = choice.next().await {
                steps.push(step);
            }
            steps
        };
        tokio::join!(feed, read).1
    }

    fn joined(steps: Vec<Step>) -> (String, Vec<ToolCallDelta>, Option<FinishReason>) {
        let (mut all, mut reason) = (Told::default(), None);
        for step in steps {
            match step {
                Step::More(told) => join(&mut all, told),
                Step::Ended(told, why) => {
                    join(&mut all, told);
                    reason = Some(why);
                }
                other => panic!("{other:?}"),
            }
        }
        (all.part.content, all.part.calls, reason)
    }

    /// OAI-33.
    #[tokio::test]
    async fn calls_come_in_pieces_with_one_id() {
        let steps = run(Place::new(1, true, None), pieces(&[3, 20, 50, 60])).await;
        assert!(steps.len() > 2, "{steps:?}");
        let (content, calls, reason) = joined(steps);
        assert_eq!((content.as_str(), reason), ("Look:", Some(FinishReason::ToolCalls)));
        let function = FunctionDelta { name: Some("f".into()), arguments: r#"{"a": [1, 2]}"#.into() };
        let (id, kind) = (Some("call_x0100".into()), Some("function".into()));
        assert_eq!(calls, [ToolCallDelta { index: 0, id, kind, function }]);
    }

    /// OAI-34.
    #[tokio::test]
    async fn a_resume_anywhere_tells_what_is_missing_and_no_more() {
        let whole = joined(run(Place::new(1, true, None), pieces(&[])).await);
        for cut in 0..=CALL.len() {
            let (mut before, mut all) = (Parser::new(Style::Tagged), Told::default());
            let mut told = Choice::new(1, tokio::sync::mpsc::channel(1).1, Place::default(), None)
                .with_calls(Parser::new(Style::Tagged), "call_x".into());
            let mut part = Part::default();
            told.add(before.push(&CALL[..cut]), &mut part);
            join(&mut all, Told { part, logprobs: None });
            let rest = joined(run(Place::new(1, true, Some(cut)), pieces(&[])).await);
            join(&mut all, Told { part: Part { content: rest.0, calls: rest.1 }, logprobs: None });
            assert_eq!((all.part.content, all.part.calls, rest.2), whole, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn what_breaks_off_is_no_end() {
        let failed = Event::Failed(engine_is_gone());
        let steps = run(Place::default(), vec![failed]).await;
        assert_eq!(steps, [Step::Failed(engine_is_gone())]);
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        drop(sender);
        assert!(Choice::new(0, receiver, Place::default(), None).whole().await.is_err());
    }
}
