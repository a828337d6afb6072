//! `events`: what has happened, and on request what happens, over restarts of whoever tells it.
//!
//! ```text
//!   list since … ──▶ next id ──▶ follow after it ──▶ event, event, …
//!                                  └─ nobody answers ─▶ said once, taken up where it was ─┘
//! ```

use std::io;
use std::time::Duration;

use rbee_api::{ClientError, Event, EventQuery, EventsReply, Since};
use rbee_runtime::config::Config;

use crate::cli::EventsArgs;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::recovery::is_gone;
use crate::ui::event_line;

/// Without `--since`.
const LINES: u32 = 100;
/// A silence of whoever tells events is mentioned after that long.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pages read of a list that is asked for from a time on: a bound where a server never said that it was all.
const PAGES_MAX: usize = 10_000;

pub(super) async fn run(context: &Context, args: EventsArgs) -> Result<Exit, Failure> {
    let config = context.config()?.config;
    let lines = args.lines.unwrap_or(LINES);
    let limit = args.since.is_none().then(|| usize::try_from(lines).unwrap_or(usize::MAX));
    let query = EventQuery { since: args.since, kinds: args.kind, daemon: args.daemon, limit };
    match told(context, &config, &query, args.follow).await {
        Err(Told::NobodyReads) => Ok(Exit::DONE),
        Err(Told::Failed(failure)) => Err(failure),
        Ok(()) => Ok(Exit::DONE),
    }
}

/// Why no more is told.
enum Told {
    /// Whoever read our output has gone: that is how `| head` ends us.
    NobodyReads,
    Failed(Failure),
}

impl From<Failure> for Told {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<io::Error> for Told {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::Failed(Failure::new("output", "cannot write").because(&error)),
        }
    }
}

async fn told(context: &Context, config: &Config, query: &EventQuery, follow: bool) -> Result<(), Told> {
    if context.ui.is_json() && !follow {
        let mut all = EventsReply { events: Vec::new(), next: 0 };
        all.next = list(context, config, query, |events| {
            all.events.extend(events);
            Ok(())
        })
        .await?;
        context.ui.json(&all);
        return Ok(());
    }
    let next = list(context, config, query, |events| events.iter().try_for_each(|event| tell(context, event))).await?;
    if follow {
        go_on(context, config, EventQuery { since: Some(Since::Id(next)), limit: None, ..query.clone() }).await
    } else {
        Ok(())
    }
}

/// Hands on what has happened, a page at a time; the id after which new events come.
async fn list(
    context: &Context,
    config: &Config,
    query: &EventQuery,
    mut take: impl FnMut(Vec<Event>) -> io::Result<()>,
) -> Result<u64, Told> {
    let mut query = query.clone();
    let mut next = 0;
    for _ in 0..PAGES_MAX {
        let page = context.call(config, async |client| client.events(&query).await).await?;
        let over = query.limit.is_some() || page.events.is_empty();
        next = page.next;
        take(page.events)?;
        if over {
            break;
        }
        query.since = Some(Since::Id(next));
    }
    Ok(next)
}

/// Tells each new event once, however often whoever tells them restarts.
async fn go_on(context: &Context, config: &Config, query: EventQuery) -> Result<(), Told> {
    let client = context.client(context.target(config).url())?;
    let mut follower = client.follow_events(query, PATIENCE);
    let mut away = false;
    loop {
        match follower.next().await {
            Ok(event) => {
                away = false;
                tell(context, &event)?;
            }
            Err(error) if is_passing(&error) => {
                if !away {
                    let why = Failure::from(error).message.clone();
                    context.ui.note(&format!("{why}; going on where we were as soon as somebody answers"));
                }
                away = true;
            }
            Err(error) => return Err(Failure::from(error).into()),
        }
    }
}

fn is_passing(error: &ClientError) -> bool {
    is_gone(error) || matches!(error, ClientError::TimedOut { .. })
}

fn tell(context: &Context, event: &Event) -> io::Result<()> {
    if context.ui.is_json() {
        context.ui.json_line(event)
    } else {
        context.ui.stream(event_line(event, context.ui.color()).as_bytes())
    }
}
