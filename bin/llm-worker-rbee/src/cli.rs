//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Serves one GGUF model over the OpenAI HTTP API.
///
/// Ready (sd_notify) when the model is loaded and the socket listens. SIGTERM drains: new requests get 503, those in
/// flight are finished within --drain-timeout; a second SIGTERM ends at once. An inherited socket (LISTEN_FDS) wins
/// over --listen. If RBEE_TOKEN is set, every path but /health needs it as bearer token.
#[derive(Debug, Clone, Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Args {
    /// The GGUF file.
    #[arg(long, value_name = "FILE")]
    pub model_path: PathBuf,
    /// The model's name in requests; default: the file's name without `.gguf`.
    #[arg(long, value_name = "NAME")]
    pub model_name: Option<String>,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7855")]
    pub listen: SocketAddr,
    /// Answers generated at the same time.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub slots: u16,
    /// Tokens of prompt and answer, for each slot; cut to what the model was trained for.
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(16..=1_048_576))]
    pub context: u32,
    /// Threads to compute with; default: chosen from model size and free cores, fewer than cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    pub threads: Option<u16>,
    /// Batch-invariant numbers: the same tokens alone, in a batch and after a resume. Prompts are read more slowly.
    #[arg(long)]
    pub deterministic: bool,
    /// Keeps the model in memory: it is never swapped out. Needs a limit for locked memory (ulimit -l) of the model's size.
    #[arg(long)]
    pub mlock: bool,
    /// Reads the model into memory of its own instead of mapping its file.
    #[arg(long)]
    pub no_mmap: bool,
    /// Requests that may wait for a slot; more get 429.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(0..=4096))]
    pub queue: u16,
    /// How long requests in flight may go on after SIGTERM.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    pub drain_timeout: Duration,
    /// Folder for what is kept over restarts: what the model made of recent conversations. Without it nothing is kept.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Most MiB kept in the state folder; those used longest ago go first; 0 keeps nothing.
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u64).range(0..=1 << 30))]
    pub state_mib: u64,
    /// Forgets what was kept before this start.
    #[arg(long)]
    pub clean: bool,
    /// Another name that requests may have in their Host header.
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<String>,
    /// More log lines; twice for debugging.
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

const EXAMPLES: &str = "\
Examples:
  llm-worker-rbee --model-path SmolLM2-135M-Instruct.Q4_1.gguf --model-name smollm2
  llm-worker-rbee --model-path m.gguf --listen 127.0.0.1:0 --slots 8 --context 4096 --threads 1
  llm-worker-rbee --model-path m.gguf --deterministic
  curl -N http://127.0.0.1:7855/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{\"model\":\"smollm2\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}'

Exit codes: 0 done, 69 cannot serve (port taken, model unreadable), 78 bad flags or no such model file.";

impl Args {
    /// The model's name in requests.
    #[must_use]
    pub fn model_name(&self) -> String {
        let stem = || self.model_path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        self.model_name.clone().or_else(stem).unwrap_or_else(|| "model".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::Args;

    fn parse(args: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("llm-worker-rbee").chain(args.split_whitespace()))
    }

    #[test]
    fn what_worker_lifecycle_passes_is_understood() {
        let args = parse(
            "--model-path /m/a.gguf --model-name smollm2 --listen 127.0.0.1:7855 --slots 4 --context 2048 --threads 1 \
             --deterministic --mlock --no-mmap --state-dir /s",
        )
        .unwrap();
        assert_eq!((args.model_name().as_str(), args.slots, args.threads), ("smollm2", 4, Some(1)));
        assert!(args.deterministic && args.mlock && args.no_mmap);
    }

    #[test]
    fn the_file_names_the_model() {
        assert_eq!(parse("--model-path /m/Smol.Q4_1.gguf").unwrap().model_name(), "Smol.Q4_1");
    }

    #[test]
    fn bad_values_are_refused() {
        for args in ["", "--model-path a --slots 0", "--model-path a --threads 0", "--model-path a --listen x"] {
            assert!(parse(args).is_err(), "{args}");
        }
    }
}
