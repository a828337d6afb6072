//! From the command line to a serving process, and down again.
//!
//! ```text
//!   loading ──▶ serving ──SIGTERM──▶ draining ──all answered──────────────▶ flushing ──▶ exit 0
//!      │           │                     └──time over, second SIGTERM: Abort ──▲
//!      │           └──engine thread ended: exit 1
//!      └──file missing: exit 78; port taken, model unreadable: exit 69
//! ```

use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

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
use crate::http::{Service, router};
use crate::job::Command;
use crate::metrics::Metrics;
use crate::template::ChatTemplate;

mod error;

pub use error::ServeError;

/// How long answers that were cut off have to reach their clients.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

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
    let engine = start_engine(&args, metrics.clone())?;
    let model = engine.loaded.await.map_err(|_| ServeError::EngineGone)?;
    let model = model.map_err(|source| ServeError::Engine { source })?;
    if !shutdown.is_draining() {
        let service = Arc::new(service(&args, &model, metrics.clone(), engine.commands, &shutdown)?);
        let app = router(service.clone(), token, AllowedHosts::new(address, &args.allow_host));
        tracing::info!(%address, model = service.model_name, slots = service.slots, context = service.info.context_tokens,
            threads = service.info.threads, deterministic = service.deterministic, "serving");
        notify::ready();
        serve_until_drained(listener, app, &service, engine.ended, &args).await?;
    }
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
fn start_engine(args: &Args, metrics: Arc<Metrics>) -> Result<EngineThread, ServeError> {
    let config = LlamaConfig {
        model_path: args.model_path.clone(),
        slots: args.slots.into(),
        context_tokens: args.context as usize,
        threads: args.threads.map(usize::from),
        deterministic: args.deterministic,
    };
    let (commands, receiver) = std_mpsc::channel();
    let (loaded_tx, loaded) = oneshot::channel();
    let (ended_tx, ended) = oneshot::channel::<()>();
    let work = move || {
        // Dropped last, in a panic too: whoever waits for it learns that the thread is over.
        let _ended = ended_tx;
        let _gone = SetOnDrop(metrics.clone());
        engine_thread(config, metrics, &receiver, loaded_tx);
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
    metrics: Arc<Metrics>,
    commands: &std_mpsc::Receiver<Command>,
    loaded: oneshot::Sender<Result<Arc<LoadedModel>, EngineError>>,
) {
    let model = match LoadedModel::load(config) {
        Ok(model) => model,
        Err(error) => return drop(loaded.send(Err(error))),
    };
    let engine = match model.engine() {
        Ok(engine) => engine,
        Err(error) => return drop(loaded.send(Err(error))),
    };
    let batcher = Batcher::new(engine, model.clone(), metrics);
    if loaded.send(Ok(model.clone())).is_ok() {
        batcher.run(commands);
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
    let grace = drain_timeout + FLUSH_TIMEOUT;
    notify::extend_timeout(u32::try_from(grace.as_micros()).unwrap_or(u32::MAX));
    let (busy, waiting) = (service.metrics.slots_busy.get(), service.metrics.queue_depth.get());
    tracing::info!(busy, waiting, drain_timeout_s = drain_timeout.as_secs(), "draining");
    let why = tokio::select! {
        () = service.all_answered() => return,
        () = tokio::time::sleep(drain_timeout) => "the worker goes down and the time to finish is over",
        () = service.shutdown.immediate() => "the worker was told to go down at once",
    };
    tracing::warn!(why, "cutting off what is in flight");
    let error = ApiError::new(ErrorCode::ShuttingDown, format!("the answer is not complete: {why}"));
    // Fails only when the engine's thread is gone; then there is nothing to cut off.
    let _ = service.commands.send(Command::Abort(error));
    let _ = tokio::time::timeout(FLUSH_TIMEOUT, service.all_answered()).await;
}
