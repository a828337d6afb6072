//! News of the tiers as they come: the tree on a timer and at once after an event, and the events themselves.
//!
//! ```text
//!   events ──▶ News::Event ─┐        every N s ─┐
//!        └─ queen restarts ─┘ wake ─────────────┴─▶ status ─▶ News::Status
//! ```

use std::sync::Arc;
use std::time::Duration;

use rbee_api::{ClientError, Event, EventQuery, FleetStatus, Since};
use rbee_runtime::config::Config;
use tokio::sync::{Notify, mpsc};

use crate::commands::status;
use crate::context::Context;
use crate::failure::Failure;

/// Between two looks at the tree, however many events come.
const LOOK_GAP: Duration = Duration::from_millis(200);
/// How long one look may take.
const LOOK_MAX: Duration = Duration::from_secs(15);
/// After that long without events somebody is told why.
const EVENTS_PATIENCE: Duration = Duration::from_secs(10);
/// Then it is tried again after this.
const EVENTS_PAUSE: Duration = Duration::from_secs(3);
/// Events from before we looked.
const EVENTS_BEFORE: usize = 200;

/// What is new.
#[derive(Debug)]
pub(crate) enum News {
    /// The tree, and why it is not all.
    Status(Box<FleetStatus>, Vec<String>),
    /// Nobody told anything.
    NoStatus(String),
    /// Something happened.
    Event(Box<Event>),
    /// Events do not come, and why.
    NoEvents(String),
}

/// Tells the tree every so often, and soon after each wake-up, until nobody listens.
pub(crate) async fn status(
    context: Context,
    config: Config,
    every: Duration,
    wake: Arc<Notify>,
    out: mpsc::Sender<News>,
) {
    loop {
        let news = match tokio::time::timeout(LOOK_MAX, status::gather(&context, &config)).await {
            Ok(Ok(known)) => News::Status(Box::new(known.fleet), known.notes),
            Ok(Err(failure)) => News::NoStatus(failure.message.clone()),
            Err(_) => News::NoStatus(format!("no answer within {LOOK_MAX:?}")),
        };
        if out.send(news).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = wake.notified() => tokio::time::sleep(LOOK_GAP).await,
        }
    }
}

/// Tells the newest events and then each one as it comes, once, over restarts of whoever tells them.
pub(crate) async fn events(context: Context, config: Config, out: mpsc::Sender<News>) {
    loop {
        if let Err(failure) = tell_events(&context, &config, &out).await
            && out.send(News::NoEvents(failure.message.clone())).await.is_err()
        {
            return;
        }
        tokio::time::sleep(EVENTS_PAUSE).await;
        if out.is_closed() {
            return;
        }
    }
}

async fn tell_events(context: &Context, config: &Config, out: &mpsc::Sender<News>) -> Result<(), Failure> {
    let client = context.client(context.target(config).url())?;
    let before = EventQuery { limit: Some(EVENTS_BEFORE), ..EventQuery::default() };
    let before = client.events(&before).await?;
    for event in before.events {
        if out.send(News::Event(Box::new(event))).await.is_err() {
            return Ok(());
        }
    }
    let query = EventQuery { since: Some(Since::Id(before.next)), ..EventQuery::default() };
    let mut follower = client.follow_events(query, EVENTS_PATIENCE);
    loop {
        let news = match follower.next().await {
            Ok(event) => News::Event(Box::new(event)),
            // It goes on where it was as soon as somebody answers again.
            Err(error) if is_away(&error) => News::NoEvents(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        if out.send(news).await.is_err() {
            return Ok(());
        }
    }
}

const fn is_away(error: &ClientError) -> bool {
    matches!(error, ClientError::Unreachable { .. } | ClientError::TimedOut { .. } | ClientError::BrokenAnswer { .. })
}
