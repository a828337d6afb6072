//! Why workers are as they are, for people: each fall with its time, its chain of causes and what came of it.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use rbee_api::WhyReply;
use rbee_api::control::{WhyFall, WhyOutcome, WorkerWhy};

use super::Tone;

/// The history of each worker, newest fall first.
pub(crate) fn history(reply: &WhyReply, color: bool) -> String {
    let now = Timestamp::now();
    reply.workers.iter().map(|worker| of_worker(worker, now, color)).collect::<Vec<_>>().join("\n")
}

fn of_worker(why: &WorkerWhy, now: Timestamp, color: bool) -> String {
    let worker = &why.worker.worker;
    let name = format!("{}:{}/{}", why.worker.hive, worker.name, worker.replica);
    let mut text = format!("{} is {}", Tone::Bold.paint(&name, color), worker.phase);
    if let Some(reason) = &worker.reason {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {reason}");
    }
    if worker.restarts > 0 {
        let _ = write!(text, " ({} restarts counted)", worker.restarts);
    }
    text.push('\n');
    if why.falls.is_empty() {
        text.push_str("  it has not fallen since its supervisor knows it\n");
    }
    for fall in &why.falls {
        let at = fall.at.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        let _ = writeln!(text, "  {}  {}", Tone::Dim.paint(&at, color), fall.summary);
        let _ = writeln!(text, "  {:21} {}", "", outcome(fall, now));
    }
    text
}

fn outcome(fall: &WhyFall, now: Timestamp) -> String {
    let ended =
        fall.ended.as_ref().map(|how| format!("run {} ended with {how}; ", fall.incarnation)).unwrap_or_default();
    let since = fall.since.map(|since| {
        let gone = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        let whole = humantime::format_duration(Duration::from_secs(gone.as_secs())).to_string();
        format!(" since {}", whole.split(' ').take(2).collect::<Vec<_>>().join(" "))
    });
    let since = since.unwrap_or_default();
    let what = match fall.outcome {
        WhyOutcome::Pending => "not settled yet",
        WhyOutcome::Running => "runs again",
        WhyOutcome::Down => "down",
        WhyOutcome::Overtaken => "then it fell again",
    };
    format!("{ended}{what}{since}")
}

#[cfg(test)]
mod tests {
    use rbee_api::Phase;
    use rbee_api::control::WorkerOnHive;

    use super::*;
    use crate::ui::tree::tests::worker;

    /// HIVE-15
    #[test]
    fn a_chain_is_one_sentence_with_its_outcome() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let fall = |outcome, since: Option<&str>| WhyFall {
            at: "2026-01-02T03:00:00Z".parse().unwrap(),
            incarnation: 2,
            summary: "api/0 restarted because its dependency cache/0 restarted because it exited with code 1"
                .to_owned(),
            chain: vec!["api/0".to_owned(), "cache/0".to_owned()],
            ended: Some("SIGTERM".to_owned()),
            outcome,
            since: since.map(|since| since.parse().unwrap()),
        };
        let of = |falls| WorkerWhy {
            worker: WorkerOnHive { hive: "local".to_owned(), worker: worker(0, Phase::Failed) },
            falls,
        };
        let falls = vec![fall(WhyOutcome::Running, Some("2026-01-02T03:00:05Z")), fall(WhyOutcome::Overtaken, None)];
        insta::assert_snapshot!(of_worker(&of(falls), now, false), @r"
        local:smollm2/0 is failed: exit code 1
          2026-01-02 03:00:00Z  api/0 restarted because its dependency cache/0 restarted because it exited with code 1
                                run 2 ended with SIGTERM; runs again since 4m
          2026-01-02 03:00:00Z  api/0 restarted because its dependency cache/0 restarted because it exited with code 1
                                run 2 ended with SIGTERM; then it fell again
        ");
        assert!(of_worker(&of(Vec::new()), now, false).contains("has not fallen"));
    }
}
