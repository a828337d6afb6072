//! Asking for events: a list, one stream, and a stream that is taken up again where it broke.

use std::pin::Pin;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use eventsource_stream::{EventStreamError, Eventsource as _};
use futures_util::{Stream, StreamExt as _};

use super::{Event, EventQuery, EventsReply, Since};
use crate::client::{ClientError, ControlClient};

const PATH: &str = "/api/v1/events";
/// A server says something at least every 15 s; one that is silent for longer is gone without a word.
const SILENCE_MAX: Duration = Duration::from_secs(45);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Events as they come, until the connection ends.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<Event, ClientError>> + Send>>;

impl ControlClient {
    /// Events that have happened, oldest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn events(&self, query: &EventQuery) -> Result<EventsReply, ClientError> {
        self.json(self.get(PATH).query(&query.to_pairs()).timeout(Duration::from_secs(10))).await
    }

    /// Events as they come, over one connection. `last_id` is the last one known; it wins over the query's `since`.
    ///
    /// # Errors
    /// See [`ClientError`]; also for each event.
    pub async fn event_stream(&self, query: &EventQuery, last_id: Option<u64>) -> Result<EventStream, ClientError> {
        let mut builder = self.get(PATH).query(&query.to_pairs()).header("accept", "text/event-stream");
        if let Some(last_id) = last_id {
            builder = builder.header("last-event-id", last_id);
        }
        let response = self.send(builder).await?;
        let (status, url) = (response.status().as_u16(), response.url().to_string());
        let is_stream =
            response.headers().get("content-type").is_some_and(|is| is.as_bytes().starts_with(b"text/event"));
        if !is_stream {
            return Err(ClientError::NotRbee { url, status });
        }
        let pieces = response.bytes_stream();
        let pieces = futures_util::stream::unfold(Box::pin(pieces), async |mut pieces| {
            // A silence ends it like a connection that was closed: whoever wants more asks again.
            let piece = tokio::time::timeout(SILENCE_MAX, pieces.next()).await.ok().flatten()?;
            Some((piece, pieces))
        });
        let events = pieces.eventsource().map(move |event| match event {
            Ok(event) => {
                let url = url.clone();
                serde_json::from_str(&event.data).map_err(|_| ClientError::NotRbee { url, status })
            }
            Err(EventStreamError::Transport(source)) => Err(ClientError::BrokenAnswer { url: url.clone(), source }),
            Err(_) => Err(ClientError::NotRbee { url: url.clone(), status }),
        });
        Ok(Box::pin(events))
    }

    /// Events as they come, over as many connections as it takes; see [`EventFollower`].
    #[must_use]
    pub fn follow_events(&self, query: EventQuery, patience: Duration) -> EventFollower {
        EventFollower {
            client: self.clone(),
            query,
            patience,
            last_id: None,
            stream: None,
            delays: delays(),
            away: None,
        }
    }
}

/// Events as they come. A connection that ends is made anew, and the next event is the one after the last.
pub struct EventFollower {
    client: ControlClient,
    query: EventQuery,
    patience: Duration,
    last_id: Option<u64>,
    stream: Option<EventStream>,
    delays: ExponentialBackoff,
    away: Option<Instant>,
}

impl EventFollower {
    /// The id of the last event given out.
    #[must_use]
    pub const fn last_id(&self) -> Option<u64> {
        self.last_id
    }

    /// The next event, however long that takes. Giving up waiting for it loses nothing.
    ///
    /// # Errors
    /// See [`ClientError`]: the server refuses, or was away for longer than the patience. It may be called again.
    pub async fn next(&mut self) -> Result<Event, ClientError> {
        loop {
            let failure = match &mut self.stream {
                None => match self.connect().await {
                    Ok(()) => continue,
                    Err(error) => Some(error),
                },
                Some(stream) => match stream.next().await {
                    Some(Ok(event)) => {
                        self.last_id = Some(event.id);
                        self.delays = delays();
                        return Ok(event);
                    }
                    Some(Err(error)) => Some(error),
                    None => None,
                },
            };
            self.stream = None;
            let away = self.away.get_or_insert_with(Instant::now).elapsed();
            match failure {
                Some(error) if !is_passing(&error) || away >= self.patience => {
                    self.away = None;
                    return Err(error);
                }
                _ => tokio::time::sleep(self.delays.next().unwrap_or(PAUSE_MAX)).await,
            }
        }
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        if self.last_id.is_none() && self.query.since.is_none() {
            // A connection that breaks before its first event must not lose that one.
            let end = EventQuery { limit: Some(0), ..EventQuery::default() };
            self.query.since = Some(Since::Id(self.client.events(&end).await?.next));
        }
        self.stream = Some(self.client.event_stream(&self.query, self.last_id).await?);
        self.away = None;
        Ok(())
    }
}

impl std::fmt::Debug for EventFollower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventFollower")
            .field("query", &self.query)
            .field("last_id", &self.last_id)
            .finish_non_exhaustive()
    }
}

/// Whether asking again can help: nobody there, broken off, or a server that is about to go.
const fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } | ClientError::TimedOut { .. } | ClientError::BrokenAnswer { .. } => true,
        ClientError::Api { status, .. } | ClientError::NotRbee { status, .. } => *status >= 500,
    }
}

fn delays() -> ExponentialBackoff {
    let delays = ExponentialBuilder::default().with_min_delay(PAUSE_MIN).with_max_delay(PAUSE_MAX);
    delays.without_max_times().with_jitter().build()
}
