//! What can be asked of `status` and `events`.

use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rbee_api::{EventKind, Since};

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Go on: a view of all that runs on a terminal, else one line for each change
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// With --watch: how often figures such as memory are looked at
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = pace, requires = "watch")]
    pub(crate) every: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on with new events as they come, over restarts of queen too
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// From then on: an age such as 10m, a time such as 2026-01-31T12:00:00Z or "2026-01-31 12:00", or an event's id
    #[arg(long, value_name = "DURATION|TIME", value_parser = since)]
    pub(crate) since: Option<Since>,
    /// Only this kind; may be given several times
    #[arg(long, value_name = "K", value_delimiter = ',', value_parser = kinds())]
    pub(crate) kind: Vec<EventKind>,
    /// Only of this daemon: queen, hive, NAME, NAME/REPLICA or HIVE:NAME/REPLICA
    #[arg(long, value_name = "NAME")]
    pub(crate) daemon: Option<String>,
    /// How many of the newest, where --since does not say from when [default: 100]
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "since", value_parser = clap::value_parser!(u32).range(..=10_000))]
    pub(crate) lines: Option<u32>,
}

/// clap names the nearest word for one that is not among these.
fn kinds() -> impl TypedValueParser<Value = EventKind> {
    PossibleValuesParser::new(EventKind::ALL.map(EventKind::as_str)).try_map(|word| word.parse::<EventKind>())
}

fn pace(text: &str) -> Result<Duration, String> {
    let pace = humantime::parse_duration(text).map_err(|error| format!("{error}; write it like 500ms or 2s"))?;
    let sound = (Duration::from_millis(200)..=Duration::from_secs(3600)).contains(&pace);
    if sound { Ok(pace) } else { Err("must be from 200ms to 1h".to_owned()) }
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(since) = text.parse() {
        return Ok(since);
    }
    if let Ok(age) = humantime::parse_duration(text) {
        let then = Timestamp::now().checked_sub(age).unwrap_or(Timestamp::UNIX_EPOCH);
        return Ok(Since::Time(then.max(Timestamp::UNIX_EPOCH)));
    }
    // A time without a zone is meant as the clock on the wall.
    let local = text.parse::<DateTime>().ok().and_then(|time| time.to_zoned(TimeZone::system()).ok());
    let why = "write an age such as 10m or 2d, a time such as 2026-01-31T12:00:00Z or \"2026-01-31 12:00\", or an id";
    local.map(|time| Since::Time(time.timestamp())).ok_or_else(|| why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KEEP-19
    #[test]
    fn since_is_an_age_a_time_or_an_id() {
        assert_eq!(since("17").unwrap(), Since::Id(17));
        let time = Since::Time("2026-01-02T03:04:05Z".parse().unwrap());
        assert_eq!(since("2026-01-02T03:04:05Z").unwrap(), time);
        assert_eq!(since("2026-01-02T04:04:05+01:00").unwrap(), time);
        assert!(matches!(since("2026-01-02 03:04").unwrap(), Since::Time(_)));
        assert!(matches!(since("2026-01-02").unwrap(), Since::Time(_)));
        let before = Timestamp::now();
        let Since::Time(then) = since("10m").unwrap() else { panic!("an age is a time") };
        assert!((599..=601).contains(&(before.as_second() - then.as_second())));
        assert_eq!(since("9000years").unwrap(), Since::Time(Timestamp::UNIX_EPOCH));
        for text in ["yesterday", "", "-5m", "2026-13-01"] {
            assert!(since(text).unwrap_err().contains("10m"), "{text}");
        }
    }

    #[test]
    fn figures_are_neither_asked_for_all_the_time_nor_never() {
        assert_eq!(pace("500ms").unwrap(), Duration::from_millis(500));
        assert!(pace("0s").is_err() && pace("1ms").is_err() && pace("2h").is_err() && pace("often").is_err());
    }
}
