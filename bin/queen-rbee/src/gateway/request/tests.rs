//! What is found in requests, and what they become for our engine.

use serde_json::Value;

use super::*;

fn asked(body: &'static str, count: bool) -> Result<Asked, ApiError> {
    peek(Path::Chat, &Bytes::from_static(body.as_bytes()), count)
}

fn own(asked: &Asked) -> Value {
    serde_json::from_slice(&asked.own.as_ref().unwrap().at(&Progress::default())).unwrap()
}

#[test]
fn model_and_stream_are_found_among_anything() {
    let body = r#"{"messages":[{"a":[1,{"model":"inner"}]}],"model":"m\u0041","stream":true,"n":3}"#;
    let found = asked(body, false).unwrap();
    assert_eq!((found.model.as_str(), found.stream, found.terms.choices), ("mA", true, 3));
    assert!(!asked(r#"{"model":"m","stream":null}"#, false).unwrap().stream);
    let wanted = asked(r#"{"model":"m","stream_options":{"include_usage":true}}"#, false).unwrap();
    assert!(wanted.terms.usage_wanted);
}

#[test]
fn nonsense_is_refused_with_its_reason() {
    for (body, says) in [
        (r#"{"model": "m""#, "not JSON"),
        ("", "not JSON"),
        ("\u{0}", "not JSON"),
        (r#"{"model":"m"} x"#, "not JSON"),
        ("[1]", "not a request"),
        (r#"{"model": 5}"#, "not a request"),
        (r#"{"model":"m","stream":"yes"}"#, "not a request"),
        (r#"{"messages":[]}"#, "no `model`"),
        (r#"{"model":""}"#, "no `model`"),
    ] {
        let error = asked(body, false).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidRequest);
        assert!(error.message.contains(says), "{body}: {}", error.message);
    }
    let no_utf8 = Bytes::from_static(&[0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]);
    assert!(peek(Path::Chat, &no_utf8, false).is_err(), "no UTF-8");
    let forged = asked(r#"{"model":"m","rbee_resume":null}"#, false).unwrap_err();
    assert_eq!(forged.param.as_deref(), Some("rbee_resume"));
}

/// GATE-10
#[test]
fn our_engine_gets_the_clients_body_with_what_makes_it_repeatable() {
    let client = r#" { "model":"m", "messages":[{"role":"user","content":"\u00e9"}] }"#;
    let found = asked(client, false).unwrap();
    let body = own(&found);
    assert_eq!(body["messages"][0]["content"], "\u{e9}");
    assert!(body["seed"].is_u64() && body.get("stream_options").is_none());
    assert!(body["rbee_resume"]["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(body["rbee_resume"]["choices"], Value::Array(vec![]));
    assert_eq!(own(&found), body, "the same each time");

    let mut progress = Progress::default();
    progress.note(b"0 5,6 3").unwrap();
    let later: Value = serde_json::from_slice(&found.own.as_ref().unwrap().at(&progress)).unwrap();
    assert_eq!(later["rbee_resume"]["choices"][0]["tokens"], serde_json::json!([5, 6]));
    assert_eq!(later["rbee_resume"]["id"], body["rbee_resume"]["id"]);

    assert_eq!(own(&asked(r#"{"model":"m","seed":7}"#, false).unwrap())["seed"], 7);
    assert!(own(&asked(r#"{"model":"m","seed":null,"x":1.50}"#, false).unwrap())["seed"].is_u64());
    let embeddings = peek(Path::Embeddings, &Bytes::from_static(br#"{"model":"m"}"#), true).unwrap();
    assert!(embeddings.own.is_none());
}

#[test]
fn usage_is_asked_for_where_it_is_counted() {
    for (body, says) in [
        (r#"{"model":"m","stream":true}"#, true),
        (r#"{"model":"m","stream":true,"stream_options":null}"#, true),
        (r#"{"model":"m","stream":true,"stream_options":{"include_usage":false}}"#, true),
        (r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#, true),
        (r#"{"model":"m"}"#, false),
    ] {
        let body = own(&asked(body, true).unwrap());
        assert_eq!(body["stream_options"]["include_usage"] == true, says, "{body}");
    }
}

#[tokio::test]
async fn a_body_is_taken_up_to_its_bound_whether_declared_or_not() {
    for declared in [true, false] {
        for (length, taken) in [(10, true), (11, false)] {
            let mut headers = HeaderMap::new();
            if declared {
                headers.insert(CONTENT_LENGTH, length.into());
            }
            let result = read_body(&headers, Body::from(vec![b'x'; length]), 10, Duration::from_secs(9)).await;
            assert_eq!(result.is_ok(), taken, "{length} bytes, declared: {declared}");
        }
    }
}

/// GATE-12
#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let half = futures_util::stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(b"{")) });
    let body = Body::from_stream(half.chain(futures_util::stream::pending()));
    let begin = Instant::now();
    let error = read_body(&HeaderMap::new(), body, 10, Duration::from_secs(9)).await.unwrap_err();
    assert_eq!((error.code, begin.elapsed().as_secs()), (ErrorCode::InvalidRequest, 9));
    let drops = futures_util::stream::unfold(0, |sent| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        (sent < 15).then_some((Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; BODY_BYTES_PER_S_MIN])), sent + 1))
    });
    let whole = read_body(&HeaderMap::new(), Body::from_stream(drops), 1 << 24, Duration::from_secs(9)).await;
    assert_eq!(whole.unwrap().len(), 15 * BODY_BYTES_PER_S_MIN, "slow, but it comes");
}
