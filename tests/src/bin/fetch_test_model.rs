//! Fetches the model of the tests into the folder given, once, and prints its path: `fetch-test-model FOLDER`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

use anyhow::{Context, Result};
use model_store::{ModelSource, ModelStore, Progress, Sha256Digest, Stage};
use rbee_tests::model;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).context("usage: fetch-test-model FOLDER")?;
    let source: ModelSource = model::SOURCE.parse()?;
    let sha256: Sha256Digest = model::SHA256.parse()?;
    let mut shown = None;
    let show = |progress: Progress| {
        // A line for every tenth: the output may be a log.
        let tenth = progress.total_bytes.map(|total| progress.done_bytes * 10 / total.max(1));
        if shown.replace((progress.stage, tenth)) != Some((progress.stage, tenth)) {
            show(progress);
        }
    };
    let path = ModelStore::new(folder).ensure(model::NAME, &source, Some(&sha256), show).await?;
    println!("{}", path.display());
    Ok(())
}

fn show(progress: Progress) {
    let Progress { stage, done_bytes, total_bytes } = progress;
    let word = match stage {
        Stage::Waiting => "waiting for another process that fetches it",
        Stage::Downloading => "downloading",
        Stage::Unpacking => "unpacking",
        Stage::Verifying => "checking",
    };
    let megabytes = |bytes: u64| bytes / 1_000_000;
    match total_bytes {
        // pip before 24.1 tells no more than the size.
        Some(total) if done_bytes == 0 => eprintln!("{word} {} MB", megabytes(total)),
        Some(total) => eprintln!("{word} {} of {} MB", megabytes(done_bytes), megabytes(total)),
        None => eprintln!("{word}"),
    }
}
