//! Streams of every kind, cut anywhere.

use proptest::prelude::*;

use super::*;

const TERMS: Terms = Terms { choices: 1, usage_wanted: false, usage_counted: false };

const ROLE: &str = "data: {\"id\":\"i\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\n";
const ONE: &str = ": rbee 0 5 1\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
const TWO: &str =
    ": rbee 0 6,7 3\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\\"finish_reason\\\":\\\"x\"}}]}\n\n";
const STOP: &str = ": rbee 0 - 3\ndata: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const USED: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":3,\"total_tokens\":7}}\n\n";
const PROGRESS: &str = ": rbee progress\n\n";
const END: &str = "data: [DONE]\n\n";

fn without_notes(text: &str) -> String {
    text.split_inclusive("\n\n")
        .map(|block| block.split_inclusive('\n').filter(|line| !line.starts_with(": rbee")).collect::<String>())
        .filter(|block| block != "\n")
        .collect()
}

/// All that passes, and the end.
fn run(stream: &mut Stream, pieces: &[&[u8]], own: bool) -> (String, Option<End>) {
    let mut passed = Vec::new();
    for piece in pieces {
        let taken = stream.take(Bytes::copy_from_slice(piece), own);
        passed.extend_from_slice(&taken.pass);
        if taken.end.is_some() {
            return (String::from_utf8(passed).unwrap(), taken.end);
        }
    }
    (String::from_utf8(passed).unwrap(), None)
}

/// GATE-16
#[test]
fn notes_never_pass_and_are_remembered() {
    let whole = [PROGRESS, ROLE, ONE, PROGRESS, TWO, STOP, USED, END].concat();
    let mut stream = Stream::new(TERMS);
    let (passed, end) = run(&mut stream, &[whole.as_bytes()], true);
    assert_eq!(end, Some(End::Done));
    assert_eq!(passed, without_notes(&[ROLE, ONE, TWO, STOP, USED].concat()));
    assert_eq!(stream.progress().to_json(), r#"[{"index":0,"tokens":[5,6,7],"text_bytes":3,"finished":"stop"}]"#);
}

/// GATE-10
#[test]
fn a_worker_that_breaks_anywhere_leaves_whole_blocks_and_what_belongs_to_them() {
    let whole = [ROLE, ONE, TWO, STOP, END].concat();
    for cut in 0..whole.len() {
        let mut stream = Stream::new(TERMS);
        let (passed, _) = run(&mut stream, &[&whole.as_bytes()[..cut]], true);
        assert_eq!(stream.rest(true).pass, Bytes::new());
        let blocks = whole[..cut].rfind("\n\n").map_or("", |at| &whole[..at + 2]);
        assert_eq!(passed, without_notes(blocks), "cut at {cut}");
        let tokens: u64 = [(ONE, 1), (TWO, 2)].iter().filter(|(block, _)| blocks.contains(block)).map(|(_, n)| n).sum();
        assert_eq!(stream.progress().tokens(), tokens, "cut at {cut}");
        assert_eq!(stream.is_complete(), blocks.contains(STOP), "cut at {cut}");
        assert_eq!(stream.has_passed(), !blocks.is_empty());
    }
}

#[test]
fn a_role_alone_lists_the_choice() {
    let mut stream = Stream::new(TERMS);
    run(&mut stream, &[ROLE.as_bytes()], true);
    assert_eq!(stream.progress().to_json(), r#"[{"index":0,"tokens":[],"text_bytes":0,"finished":null}]"#);
}

#[test]
fn the_usage_is_read_and_shown_to_who_asked() {
    for (wanted, counted) in [(true, true), (true, false), (false, true)] {
        let mut stream = Stream::new(Terms { usage_wanted: wanted, usage_counted: counted, ..TERMS });
        let (passed, _) = run(&mut stream, &[[ONE, STOP].concat().as_bytes()], true);
        assert!(!stream.is_complete(), "the usage is missing");
        assert_eq!(passed, without_notes(&[ONE, STOP].concat()));
        let (passed, _) = run(&mut stream, &[USED.as_bytes()], true);
        assert_eq!(passed, if wanted { USED } else { "" });
        assert!(stream.is_complete());
        assert_eq!(stream.usage.map(|usage| usage.total_tokens), Some(7));
    }
    // Of another engine: an event with a choice passes, whatever else is in it.
    let mut stream = Stream::new(Terms { usage_counted: true, ..TERMS });
    let both = "data: {\"choices\":[{\"index\":0}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\"total_tokens\":3}}\n\n";
    assert_eq!(run(&mut stream, &[both.as_bytes()], false).0, both);
    assert_eq!(stream.usage.map(|usage| usage.completion_tokens), Some(2));
}

#[test]
fn ends_are_told_apart() {
    for (text, own, end) in [
        ("data: [DONE]\n\n", true, Some(End::Done)),
        ("data:[DONE]\r\n\r\n", false, Some(End::Done)),
        (": rbee handover\n\n", true, Some(End::Handover)),
        (": rbee handover\n\n", false, None),
        ("data: {\"choices\":[{\"text\":\"[DONE]\"}]}\n\n", false, None),
        ("data: {\"text\":\"data: [DONE]\"}\n\n", false, None),
        (": [DONE]\n\n", false, None),
        ("event: error\nid: 1\nretry: 5\ndata: {}\n\n", false, None),
        ("data: {\n data\ndata: }\n\n", false, Some(End::Garbage("something that is no event"))),
        ("<html>\n\n", false, Some(End::Garbage("something that is no event"))),
        ("data: {\"a\":\n\n", false, Some(End::Garbage("an event that is not JSON"))),
        ("data: hello\n\n", true, Some(End::Garbage("an event that is not JSON"))),
        (": rbee what 1 2\ndata: {}\n\n", true, Some(End::Garbage("a note that makes no sense"))),
        ("data: {}\n: rbee 0 1 1\n\n", true, Some(End::Garbage("a note in the middle of an event"))),
    ] {
        assert_eq!(run(&mut Stream::new(TERMS), &[text.as_bytes()], own).1, end, "{text:?}");
    }
    let own_error = "data: {\"error\":{\"message\":\"m\"}}\n\n";
    let (passed, end) = run(&mut Stream::new(TERMS), &[own_error.as_bytes()], false);
    assert_eq!((passed.as_str(), end), ("", Some(End::Error(Bytes::from_static(b"{\"error\":{\"message\":\"m\"}}")))));
    let invalid: &[u8] = b"data: {\"a\":\"\xff\"}\n\n";
    assert!(matches!(run(&mut Stream::new(TERMS), &[invalid], false).1, Some(End::Garbage(_))));
}

#[test]
fn what_came_before_garbage_passes() {
    let mut stream = Stream::new(TERMS);
    let (passed, end) = run(&mut stream, &[[ONE, "nonsense\n\n", TWO].concat().as_bytes()], true);
    assert_eq!(passed, without_notes(ONE));
    assert!(matches!(end, Some(End::Garbage(_))));
    assert_eq!(stream.progress().tokens(), 1);
}

#[test]
fn an_end_without_its_empty_line_is_an_end() {
    let mut stream = Stream::new(TERMS);
    run(&mut stream, &[ONE.as_bytes(), b"data: [DONE]"], true);
    assert_eq!(stream.rest(true).end, Some(End::Done));
    run(&mut stream, &[b"data: {\"err"], true);
    assert_eq!(stream.rest(true), Taken::nothing(None));
}

/// What a model may say: quotes, our own words, newlines, other scripts.
fn speech() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z \"\\\\\n\u{e9}\u{1F41D}]{0,6}",
        Just("\"finish_reason\":\"stop\"".to_owned()),
        Just("data: [DONE]\n\n: rbee handover\n\n".to_owned()),
        Just("\"choices\":[]".to_owned()),
    ]
}

proptest! {
    /// GATE-10: two workers after one another, cut anywhere, in pieces of any size, are one stream.
    #[test]
    fn what_two_workers_say_is_one_answer(
        texts in prop::collection::vec(speech(), 1..12),
        crlf in any::<bool>(),
        cut in any::<prop::sample::Index>(),
        sizes in prop::collection::vec(1usize..60, 1..20),
    ) {
        // Word N of the answer is token N. A worker goes on from any token.
        let said = |from: usize| -> Vec<u8> {
            let mut bytes: u64 = texts[..from].iter().map(|text| text.len() as u64).sum();
            let mut out = String::new();
            for (token, text) in texts.iter().enumerate().skip(from) {
                bytes += text.len() as u64;
                let data = serde_json::json!({"choices": [{"index": 0, "text": text, "finish_reason": null}]});
                out.push_str(&format!(": rbee 0 {token} {bytes}\ndata: {data}\n\n"));
            }
            out.push_str(&format!(": rbee 0 - {bytes}\ndata: {{\"choices\":[{{\"index\":0,\"finish_reason\":\"stop\"}}]}}\n\n{END}"));
            (if crlf { out.replace('\n', "\r\n") } else { out }).into_bytes()
        };
        let feed = |stream: &mut Stream, bytes: &[u8], passed: &mut Vec<u8>| {
            let mut left = bytes;
            for size in sizes.iter().cycle() {
                if left.is_empty() { break; }
                let (piece, rest) = left.split_at((*size).min(left.len()));
                let taken = stream.take(Bytes::copy_from_slice(piece), true);
                passed.extend_from_slice(&taken.pass);
                left = rest;
                if taken.end.is_some() { return taken.end; }
            }
            None
        };
        let undisturbed = {
            let (mut stream, mut passed) = (Stream::new(TERMS), Vec::new());
            prop_assert_eq!(feed(&mut stream, &said(0), &mut passed), Some(End::Done));
            passed
        };
        let first = said(0);
        let mut stream = Stream::new(TERMS);
        let mut passed = Vec::new();
        let end = feed(&mut stream, &first[..cut.index(first.len())], &mut passed);
        prop_assert_eq!(end, None);
        stream.another_worker();
        if !stream.is_complete() {
            let second = said(usize::try_from(stream.progress().tokens()).unwrap());
            prop_assert_eq!(feed(&mut stream, &second, &mut passed), Some(End::Done));
        }
        prop_assert_eq!(String::from_utf8(passed), String::from_utf8(undisturbed));
        prop_assert!(stream.is_complete());
    }
}
