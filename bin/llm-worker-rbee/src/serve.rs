//! From the command line to a serving process, and down again.
//!
//! ```text
//!   loading ──▶ serving ──SIGTERM──▶ draining ──all answered───────────────▶ saving ──▶ flushing ──▶ exit 0
//!      │           │                     ├──time over: Abort (hands over) ──────▲             ▲
//!      │           │                     └──second SIGTERM: Abort ────────────────────────────┘
//!      │           └──engine thread ended: exit 1
//!      ├──SIGTERM: the load is given up, exit 0
//!      └──file missing: exit 78; port taken, model unreadable: exit 69
//! ```

use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};

use rbee_api::{ApiError, ErrorCode};
use rbee_runtime::env::Env;
use rbee_runtime::http::AllowedHosts;
use rbee_runtime::listen;
use rbee_runtime::shutdown::Shutdown;
use rbee_runtime::token::Token;
use rbee_runtime::{http as runtime_http, notify};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};

use crate::batcher::Batcher;
use crate::cli::Args;
use crate::engine::EngineError;
use crate::engine::llama::{LlamaConfig, LoadedModel};
use crate::grammar::Grammars;
use crate::http::{Service, router};
use crate::job::Command;
use crate::kv::{Store, StoreConfig};
use crate::metrics::Metrics;
use crate::template::ChatTemplate;

mod error;

pub use error::ServeError;

/// Within the state folder.
const STORE_FOLDER: &str = "prefixes";
/// How long answers that were cut off have to reach their clients.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// How long saving what the slots know may take after that: the supervisor does not wait for ever.
const SAVE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a load that was given up may take to end; it is asked after each piece it has read.
const GIVE_UP_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves until told to stop.
///
/// # Errors
/// See [`ServeError`].
pub async fn run(args: Args, env: &Env) -> Result<(), ServeError> {
    check_files(&args)?;
    let token = token(env)?;
    let listener = listen::listener(args.listen, token.is_some()).map_err(|source| ServeError::Listen { source })?;
    let address = listener.local_addr().map_err(|source| ServeError::System { what: "our address", source })?;
    let shutdown = Shutdown::on_signals().map_err(|source| ServeError::System { what: "signal handlers", source })?;
    let metrics = Arc::new(Metrics::new(&args.model_name(), args.slots.into()));
    notify::status("loading the model");
    tracing::info!(file = %args.model_path.display(), "loading the model");
    let engine = start_engine(&args, metrics.clone(), &shutdown)?;
    if let Some(model) = loaded(engine.loaded, &shutdown).await? {
        let service = Arc::new(service(&args, &model, metrics.clone(), engine.commands, &shutdown)?);
        let app = router(service.clone(), token, AllowedHosts::new(address, &args.allow_host));
        tracing::info!(%address, model = service.model_name, slots = service.slots, context = service.info.context_tokens,
            threads = service.info.threads, deterministic = service.deterministic, "serving");
        notify::ready();
        serve_until_drained(listener, app, &service, engine.ended, &args).await?;
    }
    let hit_rate = metrics.hit_rate() * 100.0;
    tracing::info!("[STATS] served {} requests, cache hit rate {hit_rate:.1}%", metrics.requests.get());
    tracing::info!(
        requests = metrics.requests.get(),
        prompt_tokens = metrics.prompt_tokens.get(),
        completion_tokens = metrics.completion_tokens.get(),
        errors = metrics.errors.get(),
        uptime_s = metrics.uptime().as_secs(),
        "stopped"
    );
    Ok(())
}

/// The model, or nothing when we were told to stop before it was there.
async fn loaded<T>(
    loaded: oneshot::Receiver<Result<T, EngineError>>,
    shutdown: &Shutdown,
) -> Result<Option<T>, ServeError> {
    tokio::pin!(loaded);
    let model = tokio::select! {
        biased;
        () = shutdown.draining() => {
            tracing::info!("told to stop before the model was loaded");
            // So that the process does not end under the feet of a library that is at work; but it ends.
            let _ = tokio::time::timeout(GIVE_UP_TIMEOUT, loaded).await;
            return Ok(None);
        }
        model = &mut loaded => model,
    };
    model.map_err(|_| ServeError::EngineGone)?.map(Some).map_err(|source| ServeError::Engine { source })
}

fn check_files(args: &Args) -> Result<(), ServeError> {
    let readable = std::fs::File::open(&args.model_path).and_then(|file| match file.metadata()?.is_file() {
        true => Ok(()),
        false => Err(std::io::Error::other("it is no file")),
    });
    readable.map_err(|source| ServeError::ModelFile { path: args.model_path.clone(), source })?;
    let Some(path) = &args.state_dir else { return Ok(()) };
    std::fs::create_dir_all(path).map_err(|source| ServeError::StateDir { path: path.clone(), source })
}

fn token(env: &Env) -> Result<Option<Token>, ServeError> {
    let parse = |text: &String| Token::parse(text, "RBEE_TOKEN");
    env.rbee_token.as_ref().map(parse).transpose().map_err(|source| ServeError::Token { source })
}

/// The engine's thread, as the others see it.
struct EngineThread {
    commands: std_mpsc::Sender<Command>,
    loaded: oneshot::Receiver<Result<Arc<LoadedModel>, EngineError>>,
    /// Resolves when the thread is over.
    ended: oneshot::Receiver<()>,
}

/// Starts the one thread that owns all of llama.cpp. It ends when all senders of commands are gone.
fn start_engine(args: &Args, metrics: Arc<Metrics>, shutdown: &Shutdown) -> Result<EngineThread, ServeError> {
    let folder = args.state_dir.as_ref().filter(|_| args.state_mib > 0);
    let store = folder.map(|folder| StoreConfig {
        folder: folder.join(STORE_FOLDER),
        bytes_max: args.state_mib << 20,
        clean: args.clean,
    });
    let given_up = shutdown.clone();
    let config = LlamaConfig {
        model_path: args.model_path.clone(),
        slots: args.slots.into(),
        context_tokens: args.context as usize,
        threads: args.threads.map(usize::from),
        deterministic: args.deterministic,
        mlock: args.mlock,
        mmap: !args.no_mmap,
    };
    let (commands, receiver) = std_mpsc::channel();
    let (loaded_tx, loaded) = oneshot::channel();
    let (ended_tx, ended) = oneshot::channel::<()>();
    let work = move || {
        // Dropped last, in a panic too: whoever waits for it learns that the thread is over.
        let _ended = ended_tx;
        let _gone = SetOnDrop(metrics.clone());
        engine_thread(config, store, metrics, &receiver, loaded_tx, &given_up);
    };
    let builder = std::thread::Builder::new().name("engine".to_owned());
    builder.spawn(work).map_err(|source| ServeError::System { what: "the engine's thread", source })?;
    Ok(EngineThread { commands, loaded, ended })
}

struct SetOnDrop(Arc<Metrics>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.engine_is_gone();
    }
}

fn engine_thread(
    config: LlamaConfig,
    store: Option<StoreConfig>,
    metrics: Arc<Metrics>,
    commands: &std_mpsc::Receiver<Command>,
    loaded: oneshot::Sender<Result<Arc<LoadedModel>, EngineError>>,
    shutdown: &Shutdown,
) {
    let given_up = shutdown.clone();
    let model = match LoadedModel::load_unless(config, move || given_up.is_draining()) {
        Ok(model) => model,
        Err(error) => return drop(loaded.send(Err(error))),
    };
    let engine = match model.engine() {
        Ok(engine) => engine,
        Err(error) => return drop(loaded.send(Err(error))),
    };
    let mut batcher = Batcher::new(engine, model.clone(), metrics);
    if let Some(store) = store.and_then(|config| open_store(config, &model)) {
        batcher = batcher.with_store(store);
    }
    if loaded.send(Ok(model.clone())).is_ok() {
        batcher.run(commands);
    }
}

/// What is kept over restarts. Without it everything works, only more slowly, so no error of its keeps us from serving.
fn open_store(config: StoreConfig, model: &LoadedModel) -> Option<Store> {
    let folder = config.folder.clone();
    match model.identity().and_then(|identity| Store::open(config, identity)) {
        Ok(store) => {
            tracing::info!(prefixes = store.prefixes().count(), dropped = store.dropped(), "kept from before");
            Some(store)
        }
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "nothing is kept over restarts");
            None
        }
    }
}

fn service(
    args: &Args,
    model: &Arc<LoadedModel>,
    metrics: Arc<Metrics>,
    commands: std_mpsc::Sender<Command>,
    shutdown: &Shutdown,
) -> Result<Service, ServeError> {
    let info = model.info().clone();
    if info.context_tokens < args.context as usize {
        tracing::warn!(
            asked = args.context,
            trained = info.trained_context_tokens,
            "the context is cut to what the model was trained for"
        );
    }
    let template = info.chat_template.as_deref().map(|source| ChatTemplate::new(source, &info.bos, &info.eos));
    let places_total = u32::from(args.slots) + u32::from(args.queue);
    Ok(Service {
        model_name: args.model_name(),
        template: template.transpose().map_err(|source| ServeError::Template { source })?,
        info,
        tokenizer: model.clone(),
        grammars: Grammars::new(model.clone()),
        commands,
        metrics,
        shutdown: shutdown.clone(),
        slots: args.slots.into(),
        deterministic: args.deterministic,
        places: Arc::new(Semaphore::new(places_total as usize)),
        places_total,
        created: jiff::Timestamp::now().as_second(),
    })
}

/// Serves; while draining, still answers (503 to new requests). The socket is closed only when nothing is in flight.
async fn serve_until_drained(
    listener: TcpListener,
    app: axum::Router,
    service: &Service,
    engine_ended: oneshot::Receiver<()>,
    args: &Args,
) -> Result<(), ServeError> {
    let closing = Shutdown::new();
    let server = runtime_http::serve(listener, app, &closing, FLUSH_TIMEOUT);
    let down = async {
        let result = tokio::select! {
            () = drained(service, args.drain_timeout) => Ok(()),
            _ = engine_ended => Err(ServeError::EngineGone),
        };
        closing.drain();
        result
    };
    let (served, result) = tokio::join!(server, down);
    served.map_err(|source| ServeError::System { what: "new connections", source })?;
    result
}

/// Waits for the signal, then until everything is answered or cut off.
async fn drained(service: &Service, drain_timeout: Duration) {
    service.shutdown.draining().await;
    notify::stopping();
    let grace = drain_timeout + SAVE_TIMEOUT + FLUSH_TIMEOUT;
    notify::extend_timeout(u32::try_from(grace.as_micros()).unwrap_or(u32::MAX));
    let (busy, waiting) = (service.metrics.slots_busy.get(), service.metrics.queue_depth.get());
    tracing::info!(busy, waiting, drain_timeout_s = drain_timeout.as_secs(), "draining");
    let why = tokio::select! {
        () = service.all_answered() => return save(service).await,
        () = tokio::time::sleep(drain_timeout) => "the worker goes down and the time to finish is over",
        () = service.shutdown.immediate() => "the worker was told to go down at once",
    };
    tracing::warn!(why, "cutting off what is in flight");
    let error = ApiError::new(ErrorCode::ShuttingDown, format!("the answer is not complete: {why}"));
    // Fails only when the engine's thread is gone; then there is nothing to cut off.
    let _ = service.commands.send(Command::Abort(error));
    if !service.shutdown.is_now() {
        save(service).await;
    }
    let _ = tokio::time::timeout(FLUSH_TIMEOUT, service.all_answered()).await;
}

/// Has what the slots know written to disk.
async fn save(service: &Service) {
    let (done, saved) = oneshot::channel();
    let until = Instant::now() + SAVE_TIMEOUT;
    // Fails only when the engine's thread is gone, and what it knew with it.
    if service.commands.send(Command::Save { until, done }).is_ok() {
        let _ = tokio::time::timeout(SAVE_TIMEOUT + FLUSH_TIMEOUT, saved).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WORK-18.
    #[tokio::test(start_paused = true)]
    async fn a_load_that_hangs_does_not_hold_up_the_end() {
        let shutdown = Shutdown::new();
        let (_never, receiver) = oneshot::channel::<Result<(), EngineError>>();
        let waiting = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { loaded(receiver, &shutdown).await }
        });
        shutdown.drain();
        let begin = tokio::time::Instant::now();
        assert!(matches!(waiting.await.unwrap(), Ok(None)));
        assert!(begin.elapsed() <= GIVE_UP_TIMEOUT);
    }
}
