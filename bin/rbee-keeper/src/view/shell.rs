//! Carries out what `update` asks for: asks, follows a log, acts. It decides nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use rbee_api::{ClientError, LogQuery, Phase, ScaleRequest, Verb, VerbRequest};
use rbee_runtime::config::Config;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use super::action::Action;
use super::message::{Effect, Message};
use super::state::Place;
use crate::commands::worker;
use crate::context::{Context, Target};
use crate::failure::Failure;
use crate::feeds::{self, News};
use crate::file_tail::Tail;

/// Messages that wait; who sends more waits too, and a worker's flood of lines with them.
const MESSAGES_MAX: usize = 256;
/// Lines of a log from before it was selected.
const LINES_BEFORE: u32 = 500;
/// A row that is only passed on the way to another has no log read.
const PASSING: Duration = Duration::from_millis(120);
/// Before a log that ended is asked for again.
const LOG_PAUSE: Duration = Duration::from_secs(1);
/// A line without an end is shown in pieces of this size.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// What runs beside the view.
pub(super) struct Shell {
    context: Context,
    config: Config,
    wake: Arc<Notify>,
    messages: mpsc::Sender<Message>,
    log: Option<AbortHandle>,
    /// Actions under way; each ends with the message that says how it went.
    acts: FuturesUnordered<LocalBoxFuture<'static, Message>>,
}

impl Shell {
    /// Begins to ask for news.
    pub(super) fn start(context: &Context, config: &Config, every: Duration) -> (Self, mpsc::Receiver<Message>) {
        let (messages, received) = mpsc::channel(MESSAGES_MAX);
        let (news, mut told) = mpsc::channel(MESSAGES_MAX);
        let wake = Arc::new(Notify::new());
        // What a call has to say goes into the view, not across it.
        let mut context = context.clone();
        context.ui = context.ui.muted();
        tokio::spawn(feeds::status(context.clone(), config.clone(), every, Arc::clone(&wake), news.clone()));
        tokio::spawn(feeds::events(context.clone(), config.clone(), news));
        let sender = messages.clone();
        tokio::spawn(async move {
            while let Some(news) = told.recv().await {
                if sender.send(news.into()).await.is_err() {
                    return;
                }
            }
        });
        (Self { context, config: config.clone(), wake, messages, log: None, acts: FuturesUnordered::new() }, received)
    }

    /// Carries out what concerns us.
    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Quit | Effect::Redraw => {}
            Effect::Refresh => self.wake.notify_one(),
            Effect::Follow(place) => self.follow(place),
            Effect::Act(id, action) => {
                let (context, config) = (self.context.clone(), self.config.clone());
                self.acts.push(Box::pin(async move {
                    let outcome = act(&context, &config, &action).await;
                    Message::Acted(id, outcome.map_err(|failure| told(&failure)))
                }));
            }
        }
    }

    /// How the next action went that ends; for ever, where none is under way.
    pub(super) async fn acted(&mut self) -> Message {
        match self.acts.next().await {
            Some(message) => message,
            None => std::future::pending().await,
        }
    }

    fn follow(&mut self, place: Option<Place>) {
        if let Some(before) = self.log.take() {
            before.abort();
        }
        let Some(place) = place else { return };
        let (context, config, messages) = (self.context.clone(), self.config.clone(), self.messages.clone());
        let task = match log_file(&context, &config, &place) {
            Some(file) => tokio::spawn(follow_file(file, place, messages)),
            None => tokio::spawn(follow(context, config, place, messages)),
        };
        self.log = Some(task.abort_handle());
    }
}

impl From<News> for Message {
    fn from(news: News) -> Self {
        match news {
            News::Status(fleet, notes) => Self::Status(fleet, notes),
            News::NoStatus(why) => Self::NoStatus(why),
            News::Event(event) => Self::Event(event),
            News::NoEvents(why) => Self::NoEvents(why),
        }
    }
}

/// A failure in one line.
fn told(failure: &Failure) -> String {
    match failure.last_log_lines.last() {
        Some(line) => format!("{} (it wrote: {line})", failure.message),
        None => failure.message.clone(),
    }
}

async fn act(context: &Context, config: &Config, action: &Action) -> Result<String, Failure> {
    let changed = match action {
        Action::Worker { target, verb, rolling, force } => {
            let wait_ms = context.wait_ms();
            let request = VerbRequest { wait_ms, rolling: *rolling, force: *force, ..VerbRequest::default() };
            let reply = context.call(config, async |client| client.worker_verb(target, *verb, &request).await).await?;
            match verb {
                Verb::Stop | Verb::Kill => worker::check_reached(&reply, Phase::Stopped)?,
                Verb::Start | Verb::Restart | Verb::Retry => worker::check_reached(&reply, Phase::Running)?,
                Verb::Drain | Verb::Undrain => {}
            }
            reply.changed
        }
        Action::Scale { name, replicas } => {
            let request = ScaleRequest { replicas: *replicas, wait_ms: context.wait_ms() };
            let reply = context.call(config, async |client| client.scale(name, &request).await).await?;
            worker::check_staying(&reply, *replicas)?;
            reply.changed
        }
        Action::Hive { name, drain } => {
            let request = rbee_api::DrainRequest { wait_ms: context.wait_ms() };
            context.call(config, async |client| client.hive_drain(name, *drain, &request).await).await?.changed
        }
    };
    Ok(action.done(changed))
}

/// The log of a tier of this machine; those of others stay where they are.
fn log_file(context: &Context, config: &Config, place: &Place) -> Option<PathBuf> {
    let local = matches!(context.target(config), Target::Queen { local: true, .. } | Target::Hive { local: true, .. });
    let file = match place {
        Place::Queen if local => context.dirs.queen_log_file(),
        Place::Hive(name) if local && *name == config.hive.name => {
            context.dirs.hives_log_dir().join(format!("{name}.log"))
        }
        _ => return None,
    };
    file.is_file().then_some(file)
}

/// Tells a file's last lines and what is appended, until nobody wants it any more.
async fn follow_file(file: PathBuf, place: Place, out: mpsc::Sender<Message>) {
    tokio::time::sleep(PASSING).await;
    loop {
        let why = match tell_file(&file, &place, &out).await {
            Ok(()) => return,
            Err(error) => format!("{}: {error}", file.display()),
        };
        if out.send(Message::NoLog(place.clone(), why)).await.is_err() {
            return;
        }
        tokio::time::sleep(LOG_PAUSE).await;
    }
}

async fn tell_file(file: &Path, place: &Place, out: &mpsc::Sender<Message>) -> io::Result<()> {
    let (mut tail, mut piece) = Tail::open(file, usize::try_from(LINES_BEFORE).unwrap_or(usize::MAX))?;
    if out.send(Message::LogBegins(place.clone())).await.is_err() {
        return Ok(());
    }
    let mut lines = Lines { place: place.clone(), rest: Vec::new(), out: out.clone() };
    while lines.tell(&piece).await.is_some() {
        piece = tail.next().await?;
    }
    Ok(())
}

/// Tells a worker's log, from its last lines on, until nobody wants it any more.
async fn follow(context: Context, config: Config, place: Place, out: mpsc::Sender<Message>) {
    let Place::Worker { hive, name, replica } = &place else { return };
    let query = LogQuery { replica: Some(*replica), hive: Some(hive.clone()), lines: LINES_BEFORE, follow: true };
    tokio::time::sleep(PASSING).await;
    loop {
        let asked = match context.client(context.target(&config).url()) {
            Ok(client) => client.worker_logs(name, &query).await.map_err(|error| error.to_string()),
            Err(failure) => Err(failure.message.clone()),
        };
        let ended = match asked {
            Ok(pieces) => {
                if out.send(Message::LogBegins(place.clone())).await.is_err() {
                    return;
                }
                let lines = Lines { place: place.clone(), rest: Vec::new(), out: out.clone() };
                lines.take(std::pin::pin!(pieces)).await
            }
            Err(why) => Some(why),
        };
        let why = ended.unwrap_or_else(|| "the log ended".to_owned());
        if out.send(Message::NoLog(place.clone(), format!("{why}; asking again"))).await.is_err() {
            return;
        }
        tokio::time::sleep(LOG_PAUSE).await;
    }
}

/// Lines out of pieces.
struct Lines {
    place: Place,
    rest: Vec<u8>,
    out: mpsc::Sender<Message>,
}

impl Lines {
    /// Tells all lines; why there are no more.
    async fn take(mut self, mut pieces: impl StreamExt<Item = Result<Bytes, ClientError>> + Unpin) -> Option<String> {
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(piece) => self.tell(&piece).await?,
                Err(error) => return Some(error.to_string()),
            }
        }
        None
    }

    /// Tells the whole lines; nothing when nobody wants them any more.
    async fn tell(&mut self, piece: &[u8]) -> Option<()> {
        let lines = self.split(piece);
        if lines.is_empty() {
            return Some(());
        }
        self.out.send(Message::LogLines(self.place.clone(), lines)).await.ok()
    }

    fn split(&mut self, piece: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(piece);
        let mut lines = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line[..end]).into_owned());
        }
        if self.rest.len() > LINE_BYTES_MAX {
            lines.push(String::from_utf8_lossy(&self.rest).into_owned());
            self.rest.clear();
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_whole_lines_and_an_endless_one_is_cut() {
        let (out, _kept) = mpsc::channel(1);
        let mut lines = Lines { place: Place::Queen, rest: Vec::new(), out };
        assert_eq!(lines.split("grün".as_bytes()), Vec::<String>::new());
        assert_eq!(lines.split(b" a\nb\n\xff"), ["grün a", "b"]);
        assert_eq!(lines.split(b"\n"), ["\u{fffd}"]);
        assert_eq!(lines.split(&[b'x'; LINE_BYTES_MAX + 1]).len(), 1);
        assert!(lines.rest.is_empty());
    }
}
