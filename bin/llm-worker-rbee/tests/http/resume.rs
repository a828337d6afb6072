//! Answers that are gone on with elsewhere: what queen does between two workers.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::worker::Worker;

/// What queen knows of a stream, from the blocks that it has relayed.
#[derive(Debug, Clone, Default, PartialEq)]
struct Known {
    text: String,
    tokens: Vec<i64>,
    bytes: u64,
    begun: bool,
    finished: Option<String>,
    usage: Option<Value>,
    id: String,
    roles: usize,
    handed_over: bool,
    progress: usize,
    done: bool,
}

impl Known {
    fn take(&mut self, block: &str) {
        for line in block.lines() {
            match line {
                ": rbee handover" => self.handed_over = true,
                ": rbee progress" => self.progress += 1,
                "data: [DONE]" => self.done = true,
                _ => match (line.strip_prefix(": rbee "), line.strip_prefix("data: ")) {
                    (Some(place), _) => self.place(place),
                    (_, Some(data)) => self.data(&serde_json::from_str(data).unwrap()),
                    _ => panic!("{line:?} in {block:?}"),
                },
            }
        }
    }

    fn place(&mut self, place: &str) {
        let fields: Vec<&str> = place.split(' ').collect();
        let [_choice, tokens, bytes] = fields[..] else { panic!("{place:?}") };
        self.begun = true;
        if tokens != "-" {
            self.tokens.extend(tokens.split(',').map(|token| token.parse::<i64>().unwrap()));
        }
        self.bytes = bytes.parse().unwrap();
    }

    fn data(&mut self, data: &Value) {
        assert!(data.get("error").is_none(), "{data}");
        self.id = data["id"].as_str().unwrap().to_owned();
        self.usage = data.get("usage").filter(|usage| !usage.is_null()).cloned().or(self.usage.take());
        let Some(choice) = data["choices"].get(0) else { return };
        self.roles += usize::from(choice["delta"].get("role").is_some());
        let text = choice["delta"]["content"].as_str().or(choice["text"].as_str());
        self.text.push_str(text.unwrap_or_default());
        self.finished = choice["finish_reason"].as_str().map(str::to_owned);
        assert_eq!(self.bytes, self.text.len() as u64, "the comment does not count the text: {data}");
    }

    fn resume(&self) -> Value {
        let choice = json!({"index": 0, "tokens": self.tokens, "text_bytes": self.bytes, "finished": self.finished});
        let choices = if self.begun { json!([choice]) } else { json!([]) };
        json!({"id": "answer-1", "created": 7, "choices": choices})
    }
}

async fn blocks(worker: &Worker, path: &str, body: &Value) -> Vec<String> {
    let request = worker.post(path, body).header("x-rbee-resumable", "1");
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let text = response.text().await.unwrap();
    text.split_terminator("\n\n").map(str::to_owned).collect()
}

/// The answer taken up after its first `cut` blocks.
async fn gone_on(worker: &Worker, path: &str, body: &Value, whole: &[String], cut: usize) -> Known {
    let mut known = Known::default();
    whole[..cut].iter().for_each(|block| known.take(block));
    let mut body = body.clone();
    body["rbee_resume"] = known.resume();
    blocks(worker, path, &body).await.iter().for_each(|block| known.take(block));
    known
}

fn chat(more: Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "Write a line about café bees 🐝 and ants."}],
        "max_tokens": 24, "stream": true, "stream_options": {"include_usage": true}, "seed": 7,
        "rbee_resume": {"id": "answer-1", "created": 7, "choices": []}});
    body.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
    body
}

/// WORK-12.
#[tokio::test]
async fn an_answer_cut_anywhere_is_the_same_when_gone_on_with() {
    let Some(worker) = Worker::start(&["--deterministic"]) else { return };
    let path = "/v1/chat/completions";
    for body in [chat(json!({"temperature": 0})), chat(json!({"temperature": 0.9})), chat(json!({"temperature": 1.6}))]
    {
        let stream = blocks(&worker, path, &body).await;
        let mut whole = Known::default();
        stream.iter().for_each(|block| whole.take(block));
        assert!(whole.done && whole.id == "answer-1" && whole.roles == 1, "{whole:?}");
        assert_eq!(whole.usage.as_ref().unwrap()["completion_tokens"], whole.tokens.len());
        // Before the role, after it, in the middle, before and after the reason, before the end.
        let last = stream.len();
        for cut in [0, 1, 2, 3, 5, last / 2, last - 4, last - 3, last - 2] {
            let again = gone_on(&worker, path, &body, &stream, cut).await;
            let expected = Known { finished: again.finished.clone(), ..whole.clone() };
            assert_eq!(again, expected, "cut after {cut} of {last} blocks");
        }
    }
}

/// WORK-12.
#[tokio::test]
async fn a_stop_string_that_began_elsewhere_ends_it() {
    let Some(worker) = Worker::start(&["--deterministic"]) else { return };
    let body = |stop: Value| {
        json!({"model": "m", "prompt": "Count: one, two, three,", "temperature": 0, "max_tokens": 24, "stream": true,
            "stop": stop, "stream_options": {"include_usage": true}, "seed": 7, "rbee_resume": {"id": "answer-1", "created": 7}})
    };
    let path = "/v1/completions";
    let known = |stream: &[String]| {
        stream.iter().fold(Known::default(), |mut known, block| {
            known.take(block);
            known
        })
    };
    let text = known(&blocks(&worker, path, &body(json!(null))).await).text;
    let stop: String = text.chars().skip(12).take(8).collect();
    let body = body(json!([stop]));
    let stream = blocks(&worker, path, &body).await;
    let whole = known(&stream);
    assert_eq!(whole.text, text[..text.find(&stop).unwrap()]);
    for cut in 0..stream.len() - 1 {
        let again = gone_on(&worker, path, &body, &stream, cut).await;
        assert_eq!((&again.text, &again.usage), (&whole.text, &whole.usage), "cut after {cut} blocks");
        assert!(again.done);
    }
}

/// WORK-13.
#[tokio::test]
async fn at_the_drain_deadline_a_stream_is_handed_over_and_another_worker_goes_on() {
    let Some(first) = Worker::start(&["--deterministic", "--drain-timeout", "10ms"]) else { return };
    let Some(second) = Worker::start(&["--deterministic"]) else { return };
    let path = "/v1/chat/completions";
    let body = chat(json!({"temperature": 0.9, "max_tokens": 160, "ignore_eos": true}));
    let mut whole = Known::default();
    blocks(&second, path, &body).await.iter().for_each(|block| whole.take(block));

    let mut response = first.post(path, &body).header("x-rbee-resumable", "1").send().await.unwrap();
    let mut text = String::new();
    while text.matches("data: ").count() < 5 {
        text.push_str(&String::from_utf8_lossy(&response.chunk().await.unwrap().unwrap()));
    }
    first.signal(Signal::SIGTERM);
    text.push_str(&response.text().await.unwrap());
    let mut known = Known::default();
    text.split_terminator("\n\n").for_each(|block| known.take(block));
    assert!(known.handed_over && !known.done, "{known:?}");
    assert!(known.tokens.len() < 160);

    let mut body = body.clone();
    body["rbee_resume"] = known.resume();
    blocks(&second, path, &body).await.iter().for_each(|block| known.take(block));
    // How often it was slow is the machine's.
    assert_eq!(known, Known { handed_over: true, progress: known.progress, ..whole });
    assert_eq!(first.ended().await.0.code(), Some(0));
}

/// WORK-13.
#[tokio::test]
async fn who_waits_for_a_slot_hears_that_the_engine_works() {
    let Some(worker) = Worker::start(&["--slots", "1"]) else { return };
    let body = |tokens: u32| chat(json!({"temperature": 0, "max_tokens": tokens, "ignore_eos": true}));
    let path = "/v1/chat/completions";
    let before = worker.post(path, &body(300)).send().await.unwrap();
    let mut waiting = worker.post(path, &body(2)).header("x-rbee-resumable", "1").send().await.unwrap();
    let mut text = String::new();
    while !text.contains(": rbee progress\n\n") {
        text.push_str(&String::from_utf8_lossy(&waiting.chunk().await.unwrap().expect("it ended")));
        assert!(!text.contains("[DONE]"), "it never waited: {text}");
    }
    drop(before);
    assert!(waiting.text().await.unwrap().ends_with("data: [DONE]\n\n"));
}
