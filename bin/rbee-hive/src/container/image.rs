//! Has the engine fetch an image where it is to, and says how far that is.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard::errors::Error;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt as _;
use rbee_api::container::Pull;

use super::engine::{Engine, Trouble, is_missing, words_of};
use super::tell;

/// What each sign of progress gives the start; one that stands still ends with it.
const PATIENCE: Duration = Duration::from_secs(60);
/// No more often is progress told.
const TOLD_EVERY: Duration = Duration::from_millis(500);
/// Layers whose progress is counted; more are fetched all the same.
const LAYERS_MAX: usize = 512;

/// Makes sure that the image is there.
pub(super) async fn ensure(engine: &Engine, image: &str, pull: Pull) -> Result<(), Trouble> {
    if pull != Pull::Always {
        match engine.docker.inspect_image(image).await {
            Ok(_) => return Ok(()),
            Err(error) if !is_missing(&error) => {
                return Err(Trouble::of(&format!("cannot look for image {image}"), &error));
            }
            Err(_) if pull == Pull::Never => {
                return Err(Trouble::Missing(format!(
                    "image {image} is not here, and `pull = \"never\"`: `docker pull {image}`, or let the hive do it"
                )));
            }
            Err(_) => {}
        }
    }
    fetch(engine, image).await
}

async fn fetch(engine: &Engine, image: &str) -> Result<(), Trouble> {
    tell::status(&format!("pulling image {image}"));
    let (name, tag) = split(image);
    let mut options = CreateImageOptionsBuilder::default().from_image(name);
    if let Some(tag) = tag {
        options = options.tag(tag);
    }
    let mut progress = Progress::default();
    let mut pulling = engine.docker.create_image(Some(options.build()), None, None);
    let mut told = (Instant::now(), String::new());
    tell::more_time(PATIENCE);
    while let Some(said) = pulling.next().await {
        progress.hear(&said.map_err(|error| trouble(image, &error))?);
        let note = progress.note(image);
        if note != told.1 && told.0.elapsed() >= TOLD_EVERY {
            tell::status(&note);
            tell::more_time(PATIENCE);
            told = (Instant::now(), note);
        }
    }
    Ok(())
}

/// A registry's refusal comes in the middle of a stream, without a number: only its words tell it from a network's trouble.
fn trouble(image: &str, error: &Error) -> Trouble {
    const REFUSALS: [&str; 7] = [
        "not found",
        "manifest unknown",
        "denied",
        "unauthorized",
        "does not exist",
        "no matching manifest",
        "invalid reference",
    ];
    let words = words_of(error);
    let reason = format!("cannot pull image {image}: {words}");
    let is_refusal = REFUSALS.iter().any(|refusal| words.to_lowercase().contains(refusal));
    match Trouble::of("", error) {
        Trouble::Passing(_) if !is_refusal => Trouble::Passing(reason),
        _ => Trouble::Missing(reason),
    }
}

/// Name and tag. Without a tag the engine would fetch all there are.
fn split(image: &str) -> (&str, Option<&str>) {
    if image.contains('@') {
        return (image, None);
    }
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (image, Some("latest")),
    }
}

/// How far each layer is, in bytes.
#[derive(Debug, Default)]
struct Progress {
    layers: HashMap<String, (u64, u64)>,
}

impl Progress {
    fn hear(&mut self, said: &CreateImageInfo) {
        let (Some(id), Some("Downloading")) = (&said.id, said.status.as_deref()) else { return };
        let Some(detail) = &said.progress_detail else { return };
        let bytes = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
        if let (Some(done), Some(total)) = (bytes(detail.current), bytes(detail.total))
            && (self.layers.len() < LAYERS_MAX || self.layers.contains_key(id))
        {
            self.layers.insert(id.clone(), (done, total));
        }
    }

    /// Whole percents, of the layers that are known so far.
    fn note(&self, image: &str) -> String {
        let (done, total) = self.layers.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
        match u64::checked_div(done * 100, total) {
            Some(percent) => format!("pulling image {image}: {percent}% of {} MiB", total >> 20),
            None => format!("pulling image {image}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::ProgressDetail;

    use super::*;

    /// CONT-05
    #[test]
    fn a_name_without_a_tag_is_the_latest() {
        for (image, expected) in [
            ("redis", ("redis", Some("latest"))),
            ("redis:7", ("redis", Some("7"))),
            ("host:5000/a/b", ("host:5000/a/b", Some("latest"))),
            ("host:5000/a/b:1.2", ("host:5000/a/b", Some("1.2"))),
            ("a@sha256:00", ("a@sha256:00", None)),
        ] {
            assert_eq!(split(image), expected);
        }
    }

    /// CONT-05
    #[test]
    fn a_registrys_refusal_stays_and_a_networks_trouble_may_pass() {
        let said = |error: &str| Error::DockerStreamError { error: error.to_owned() };
        for (words, stays) in [
            ("manifest for x:1 not found: manifest unknown", true),
            ("pull access denied for x, repository does not exist or may require 'docker login'", true),
            ("Get \"https://r/v2/\": dial tcp: lookup r: Temporary failure in name resolution", false),
            ("unexpected EOF", false),
        ] {
            let found = trouble("x:1", &said(words));
            assert_eq!(matches!(found, Trouble::Missing(_)), stays, "{words}");
            assert_eq!(found.to_string(), format!("cannot pull image x:1: {words}"));
        }
    }

    /// CONT-05
    #[test]
    fn progress_is_told_over_all_layers() {
        let mut progress = Progress::default();
        assert_eq!(progress.note("x"), "pulling image x");
        for (id, status, current) in [("a", "Downloading", 50 << 20), ("b", "Downloading", 0), ("a", "Extracting", 7)] {
            let detail = ProgressDetail { current: Some(current), total: Some(100 << 20) };
            progress.hear(&CreateImageInfo {
                id: Some(id.to_owned()),
                status: Some(status.to_owned()),
                progress_detail: Some(detail),
                ..CreateImageInfo::default()
            });
        }
        assert_eq!(progress.note("x"), "pulling image x: 25% of 200 MiB");
    }
}
