//! llm-worker-rbee: the process around the library.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use llm_worker_rbee::cli::Args;
use llm_worker_rbee::serve::{self, ServeError};
use rbee_runtime::env::Env;
use rbee_runtime::logging;

/// Exit code for bad flags, as for other errors of configuration.
const EX_CONFIG: u8 = 78;
/// Stack of the runtime's threads, bytes: llama.cpp's tokenizers recurse on long words.
const STACK_BYTES: usize = 16 << 20;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::from(EX_CONFIG) } else { ExitCode::SUCCESS };
            // Nothing can be done when the terminal is gone.
            let _ = error.print();
            return code;
        }
    };
    if args.deterministic {
        switch_tiled_products_off();
    }
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

/// llama.cpp reads this switch once, at the first product; there is no call for it. Tiled products depend on the number
/// of rows in a batch, so batch-invariant numbers need them off.
#[expect(unsafe_code, clippy::disallowed_methods, reason = "no thread but this one exists yet")]
fn switch_tiled_products_off() {
    // SAFETY: called first thing in main, before the runtime, the logger or the engine started a thread; nobody else
    // can read the environment meanwhile.
    unsafe { std::env::set_var("GGML_CPU_TILED_MM", "0") };
}

fn start(args: Args) -> anyhow::Result<()> {
    let env = Env::read();
    let quiet = "info,llama-cpp-2=warn";
    let _logs = logging::init(&logging::Options {
        default_filter: logging::filter_for(quiet, if args.verbose > 0 { args.verbose + 1 } else { 0 }),
        rust_log: env.rust_log.clone(),
        json: false,
        no_color: env.no_color,
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // It does little, and what wakes up beside the engine takes from it where cores are few.
        .worker_threads(1)
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(serve::run(args, &env));
    if let Err(error) = &result {
        tracing::error!(error = error as &dyn std::error::Error, "ends");
    }
    Ok(result?)
}

/// `error: …` with its causes, then `hint: …`.
fn report(error: &anyhow::Error) -> ExitCode {
    let mut text = format!("error: {error:#}\n");
    let known = error.downcast_ref::<ServeError>();
    if let Some(hint) = known.and_then(ServeError::hint) {
        text.push_str(&format!("hint: {hint}\n"));
    }
    // Nothing can be done when stderr is gone.
    let _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::from(known.map_or(1, ServeError::exit_code))
}
