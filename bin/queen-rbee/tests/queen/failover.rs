//! Answers that outlive the workers that write them.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use rbee_api::Phase;
use serde_json::{Value, json};

use crate::gateway::{error_of, fleet, foreign, text_of};
use crate::harness::{FakeHive, TestQueen, within};
use crate::teller::{Fate, Teller};

/// Texts, roles, ends, usages, and how often it was done.
type Told<'h> =
    (&'h BTreeMap<u64, String>, &'h BTreeMap<u64, usize>, &'h BTreeMap<u64, Vec<String>>, &'h Vec<Value>, usize);

/// What a client makes of a stream.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    ids: BTreeMap<String, usize>,
    texts: BTreeMap<u64, String>,
    roles: BTreeMap<u64, usize>,
    ends: BTreeMap<u64, Vec<String>>,
    usages: Vec<Value>,
    dones: usize,
    errors: Vec<Value>,
    resumed: Option<u32>,
}

fn heard(text: &str) -> Heard {
    let mut heard = Heard::default();
    for block in text.split_inclusive("\n\n") {
        let block = block.strip_suffix("\n\n").unwrap_or_else(|| panic!("half a block: {block:?}"));
        for line in block.lines() {
            assert!(!line.starts_with(": rbee"), "{line}");
            if let Some(count) = line.strip_prefix(": x-rbee-resumed: ") {
                heard.resumed = Some(count.parse().unwrap());
            } else if line == "data: [DONE]" {
                heard.dones += 1;
            } else if let Some(data) = line.strip_prefix("data: ") {
                heard.event(&serde_json::from_str(data).unwrap());
            }
        }
    }
    assert!(heard.dones == 0 || text.ends_with("data: [DONE]\n\n"), "nothing comes after it");
    heard
}

impl Heard {
    fn event(&mut self, event: &Value) {
        if !event["error"].is_null() {
            self.errors.push(event["error"].clone());
            return;
        }
        *self.ids.entry(format!("{} {}", event["id"], event["created"])).or_default() += 1;
        if !event["usage"].is_null() {
            self.usages.push(event["usage"].clone());
        }
        for choice in event["choices"].as_array().unwrap() {
            let index = choice["index"].as_u64().unwrap();
            *self.roles.entry(index).or_default() += usize::from(!choice["delta"]["role"].is_null());
            self.texts.entry(index).or_default().push_str(choice["delta"]["content"].as_str().unwrap_or_default());
            if let Some(reason) = choice["finish_reason"].as_str() {
                self.ends.entry(index).or_default().push(reason.to_owned());
            }
        }
    }

    /// The same but for what is new in each answer: id, and how it came about.
    fn told(&self) -> Told<'_> {
        assert_eq!(self.errors, Vec::<Value>::new());
        assert_eq!(self.ids.len(), 1, "one id: {:?}", self.ids);
        (&self.texts, &self.roles, &self.ends, &self.usages, self.dones)
    }
}

fn story(more: &Value) -> String {
    let mut body = json!({"model": "m", "stream": true, "seed": 7, "max_tokens": 9, "messages": []});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body.to_string()
}

fn tell(queen: &TestQueen, more: &Value) -> impl Future<Output = Heard> + use<> {
    let asked = queen.post("/v1/chat/completions", story(more)).send();
    async { heard(&text_of(asked.await.unwrap()).await) }
}

async fn two(home: &tempfile::TempDir, keys: &str) -> (TestQueen, FakeHive, Teller, Teller) {
    let (a, b) = (Teller::start().await, Teller::start().await);
    let (queen, hive) = fleet(home, keys, vec![a.port, b.port]).await;
    (queen, hive, a, b)
}

/// GATE-10
#[tokio::test]
async fn a_worker_may_die_anywhere_and_the_answer_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let (queen, _hive, a, b) = two(&home, "").await;
    let usage = json!({"stream_options": {"include_usage": true}});
    let several = json!({"n": 2});
    for more in [json!({}), usage, several] {
        a.fates(&[]);
        b.fates(&[]);
        let undisturbed = tell(&queen, &more).await;
        assert_eq!((undisturbed.dones, undisturbed.resumed), (1, None));
        for bytes in (0..2600).step_by(331) {
            for teller in [&a, &b] {
                teller.fates(&[Fate::DiesAt(bytes)]);
            }
            let disturbed = tell(&queen, &more).await;
            assert_eq!(disturbed.told(), undisturbed.told(), "{more}, dead after {bytes} bytes");
        }
    }
    queen.stop().await;
}

/// GATE-10
#[tokio::test]
async fn however_a_worker_leaves_the_answer_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let (queen, _hive, a, b) = two(&home, "stall_timeout = \"100ms\"").await;
    let undisturbed = tell(&queen, &json!({})).await;
    for fate in [
        Fate::HandsOverAt(3),
        Fate::RavesAt(3),
        Fate::FailsAt(3),
        Fate::EndsAt(700),
        Fate::StallsAt(700),
        Fate::DiesAt(700),
        Fate::Dies,
        Fate::Refuses,
    ] {
        // Whichever is asked first; the other one lives.
        let before = (a.asked.lock().unwrap().len(), b.asked.lock().unwrap().len());
        a.fates(&[fate]);
        b.fates(&[fate]);
        let first = tell(&queen, &json!({})).await;
        assert_eq!(first.told(), undisturbed.told(), "{fate:?}");
        let seen_before = !matches!(fate, Fate::Dies | Fate::Refuses);
        assert_eq!(first.resumed.is_some(), seen_before, "{fate:?}");
        let after = (a.asked.lock().unwrap().len(), b.asked.lock().unwrap().len());
        assert!(after.0 > before.0 && after.1 > before.1, "{fate:?}: {before:?} {after:?}");
    }
    a.until_idle().await;
    b.until_idle().await;
    assert!(
        text_of(queen.http.get(format!("{}/metrics", queen.url)).send().await.unwrap())
            .await
            .contains("rbee_queen_streams_resumed_total{model=\"m\"}")
    );
    queen.stop().await;
}

/// GATE-10
#[tokio::test]
async fn the_restarted_worker_goes_on_and_the_client_is_held_meanwhile() {
    let home = tempfile::tempdir().unwrap();
    let (before, after) = (Teller::start().await, Teller::start().await);
    let (queen, hive) = fleet(&home, "comment_interval = \"20ms\"", vec![before.port]).await;
    let undisturbed = tell(&queen, &json!({})).await;
    before.fates(&[Fate::StallsAt(700)]);
    let mut response = queen.post("/v1/chat/completions", story(&json!({}))).send().await.unwrap();
    let mut text = String::new();
    while !text.contains("content") {
        text.push_str(std::str::from_utf8(&within(response.chunk()).await.unwrap().unwrap()).unwrap());
    }
    let port = after.port;
    hive.say(|workers| {
        workers[0].phase = Phase::Restarting;
        workers[0].port = None;
    })
    .await;
    drop(before);
    // As long as nothing can be done, it is told that there is somebody.
    let held = text.matches(": waiting for a worker").count() + 3;
    while text.matches(": waiting for a worker").count() < held {
        text.push_str(std::str::from_utf8(&within(response.chunk()).await.unwrap().unwrap()).unwrap());
    }
    hive.say(|workers| {
        workers[0].phase = Phase::Running;
        workers[0].incarnation = 2;
        workers[0].port = Some(port);
    })
    .await;
    text.push_str(&text_of(response).await);
    let disturbed = heard(&text);
    assert_eq!(disturbed.told(), undisturbed.told());
    assert_eq!(disturbed.resumed, Some(1));
    let (headers, body) = after.asked.lock().unwrap()[0].clone();
    assert_eq!(headers["x-rbee-resumable"], "1");
    assert!(!body["rbee_resume"]["choices"][0]["tokens"].as_array().unwrap().is_empty(), "{body}");
    queen.stop().await;
}

/// GATE-10
#[tokio::test]
async fn an_answer_in_one_piece_is_asked_for_again_with_the_same_seed() {
    let home = tempfile::tempdir().unwrap();
    let (queen, _hive, a, b) = two(&home, "").await;
    a.fates(&[Fate::Dies]);
    b.fates(&[Fate::Dies]);
    let body = r#"{"model":"m","messages":[]}"#;
    let answer: Value = within(queen.post("/v1/chat/completions", body).send()).await.unwrap().json().await.unwrap();
    let asked: Vec<Value> =
        [&a, &b].iter().flat_map(|teller| teller.asked.lock().unwrap().clone()).map(|(_, body)| body).collect();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|body| body["seed"] == asked[0]["seed"]), "{asked:?}");
    assert_eq!(answer["id"], asked[0]["rbee_resume"]["id"]);
    queen.stop().await;
}

/// GATE-05
#[tokio::test]
async fn a_request_that_kills_every_worker_ends_with_an_error_and_without_done() {
    let home = tempfile::tempdir().unwrap();
    let (queen, _hive, a, b) = two(&home, "attempts_max = 3").await;
    for teller in [&a, &b] {
        // Its role is said, and never a word.
        teller.fates(&[Fate::DiesAfter(1); 3]);
    }
    a.fates(&[Fate::DiesAfter(2), Fate::DiesAfter(1)]);
    let heard = tell(&queen, &json!({})).await;
    assert_eq!((heard.dones, heard.errors.len()), (0, 1), "{heard:?}");
    assert_eq!(heard.errors[0]["code"], "upstream_broken");
    assert_eq!(a.asked.lock().unwrap().len() + b.asked.lock().unwrap().len(), 3);
    queen.stop().await;

    let home = tempfile::tempdir().unwrap();
    let (queen, _hive, a, b) = two(&home, "attempts_max = 3").await;
    for teller in [&a, &b] {
        teller.fates(&[Fate::Dies; 3]);
    }
    let response = within(queen.post("/v1/chat/completions", story(&json!({}))).send()).await.unwrap();
    let (status, error) = error_of(response).await;
    assert_eq!(
        (status.as_u16(), &error["code"]),
        (502, &"upstream_broken".into()),
        "nothing was sent: it has a status"
    );
    queen.stop().await;
}

/// GATE-10
#[tokio::test]
async fn other_engines_are_asked_again_until_their_first_event_and_never_after() {
    let home = tempfile::tempdir().unwrap();
    let (queen, hive, a, b) = two(&home, "").await;
    foreign(&hive).await;
    // They know nothing of ours, so the story needs its id elsewhere.
    let more = json!({});
    for (fates, dones) in [
        ([Fate::DiesAt(0), Fate::Lives], 1),
        ([Fate::EndsAt(3), Fate::Lives], 1),
        ([Fate::DiesAt(400), Fate::Lives], 0),
        ([Fate::RavesAt(2), Fate::Lives], 0),
    ] {
        a.fates(&fates[..1]);
        b.fates(&fates[..1]);
        let heard = tell(&queen, &more).await;
        assert_eq!((heard.dones, heard.errors.len()), (dones, 1 - dones), "{fates:?}: {heard:?}");
        assert_eq!(heard.resumed, None);
    }
    assert!(
        a.asked
            .lock()
            .unwrap()
            .iter()
            .all(|(headers, body)| { !headers.contains_key("x-rbee-resumable") && body.get("rbee_resume").is_none() })
    );
    queen.stop().await;
}

/// GATE-06
#[tokio::test]
async fn a_client_that_goes_away_while_its_answer_moves_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (queen, hive, a, b) = two(&home, "comment_interval = \"20ms\"").await;
    a.fates(&[Fate::StallsAt(700)]);
    b.fates(&[Fate::StallsAt(700)]);
    let mut response = queen.post("/v1/chat/completions", story(&json!({}))).send().await.unwrap();
    within(response.chunk()).await.unwrap().unwrap();
    hive.say(|workers| {
        for worker in workers {
            worker.phase = Phase::Restarting;
            worker.port = None;
        }
    })
    .await;
    // Their connections break now, and nobody is there to go on.
    drop((a, b));
    queen.until_queued(1).await;
    drop(response);
    queen.until_queued(0).await;
    queen.until_idle().await;
    queen.stop().await;
}

/// GATE-10
#[tokio::test]
async fn sixty_four_streams_over_three_frail_workers_are_each_told_once() {
    let home = tempfile::tempdir().unwrap();
    let tellers = [Teller::start().await, Teller::start().await, Teller::start().await];
    let ports = tellers.iter().map(|teller| teller.port).collect();
    // Death is so frequent here that some meet it often before they get anywhere.
    let (queen, _hive) = fleet(&home, "attempts_max = 50", ports).await;
    let undisturbed: Vec<Heard> =
        join_all((0..64).map(|seed| tell(&queen, &json!({"seed": seed, "n": 1 + seed % 3})))).await;
    // The same each time: small steps of a generator that everybody knows.
    let mut state = 4711_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((state >> 33) % below).unwrap()
    };
    for teller in &tellers {
        let fates: Vec<Fate> = (0..40)
            .map(|_| match random(6) {
                0 => Fate::Lives,
                1 => Fate::HandsOverAt(random(12)),
                2 => Fate::EndsAt(random(3000)),
                3 => Fate::RavesAt(random(12)),
                _ => Fate::DiesAt(random(3000)),
            })
            .collect();
        teller.fates(&fates);
    }
    let streams = (0..64).map(|seed| tell(&queen, &json!({"seed": seed, "n": 1 + seed % 3})));
    let disturbed = within(join_all(streams)).await;
    for (disturbed, undisturbed) in disturbed.iter().zip(&undisturbed) {
        assert_eq!(disturbed.told(), undisturbed.told());
    }
    assert!(disturbed.iter().filter(|heard| heard.resumed.is_some()).count() > 10, "{disturbed:?}");
    queen.until_idle().await;
    queen.stop().await;
}
