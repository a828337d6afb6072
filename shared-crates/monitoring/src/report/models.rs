//! Requests by model, from rows of some minutes or an hour each. Pure.

use std::collections::BTreeMap;

use rbee_api::report::{ModelReport, ModelSeries, Period};

use super::Window;
use super::histogram::Histogram;

/// How the requests for one model went in one stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestRow {
    /// Where the stretch begins.
    pub from_ms: i64,
    /// Its length.
    pub covers_ms: i64,
    /// The model's name.
    pub model: String,
    /// How they went.
    pub counts: RequestCounts,
}

/// How requests went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// All that ended, in whatever way.
    pub requests: u64,
    /// Those that were not answered as they should.
    pub errors: u64,
    /// Those whose clients went away before the end.
    pub abandoned: u64,
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub completion_tokens: u64,
    /// From the request to the end of its answer; only of whole answers.
    pub latency: Histogram,
    /// From the request to the first piece of a stream.
    pub first_token: Histogram,
}

impl RequestCounts {
    /// More of them.
    pub fn add(&mut self, more: &Self) {
        self.requests = self.requests.saturating_add(more.requests);
        self.errors = self.errors.saturating_add(more.errors);
        self.abandoned = self.abandoned.saturating_add(more.abandoned);
        self.prompt_tokens = self.prompt_tokens.saturating_add(more.prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(more.completion_tokens);
        self.latency.merge(&more.latency);
        self.first_token.merge(&more.first_token);
    }

    /// Whether there were none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the rows come to, by model.
pub(super) fn fold(rows: &[RequestRow], window: Window, period: Period) -> Vec<ModelReport> {
    let mut models: BTreeMap<&str, Model> = BTreeMap::new();
    for row in rows.iter().filter(|row| window.touches(row.from_ms, row.from_ms + row.covers_ms.max(1))) {
        let model = models.entry(&row.model).or_insert_with(|| Model::new(window.steps(period)));
        model.counts.add(&row.counts);
        let (from_ms, to_ms) =
            (row.from_ms.max(window.from_ms), (row.from_ms + row.covers_ms.max(1)).min(window.to_ms));
        let parts: Vec<_> = window.split(period, from_ms, to_ms).collect();
        for (index, (part_from_ms, part_to_ms)) in parts {
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a share for a chart")]
            let share =
                |count: u64| (count as f64 * (part_to_ms - part_from_ms) as f64 / (to_ms - from_ms) as f64) as f32;
            let Some(step) = model.steps.get_mut(index) else { continue };
            step.requests += share(row.counts.requests);
            step.errors += share(row.counts.errors);
            step.latency.merge(&row.counts.latency);
        }
    }
    models.into_iter().map(|(name, model)| model.report(name)).collect()
}

struct Model {
    counts: RequestCounts,
    steps: Vec<Step>,
}

#[derive(Clone, Default)]
struct Step {
    requests: f32,
    errors: f32,
    latency: Histogram,
}

impl Model {
    fn new(steps: usize) -> Self {
        Self { counts: RequestCounts::default(), steps: vec![Step::default(); steps] }
    }

    fn report(self, name: &str) -> ModelReport {
        let Self { counts, steps } = self;
        #[expect(clippy::cast_possible_truncation, reason = "a chart")]
        let p95_ms = |step: &Step| step.latency.quantile_ms(0.95).map(|ms| ms as f32);
        ModelReport {
            name: name.to_owned(),
            requests: counts.requests,
            errors: counts.errors,
            abandoned: counts.abandoned,
            latency_ms: counts.latency.quantiles(),
            first_token_ms: counts.first_token.quantiles(),
            prompt_tokens: counts.prompt_tokens,
            completion_tokens: counts.completion_tokens,
            series: ModelSeries {
                requests: steps.iter().map(|step| step.requests).collect(),
                errors: steps.iter().map(|step| step.errors).collect(),
                p95_ms: steps.iter().map(p95_ms).collect(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const WINDOW: Window = Window { from_ms: 0, to_ms: 3_600_000 };

    fn row(model: &str, from_ms: i64, covers_ms: i64, requests: u64, latency_ms: u64) -> RequestRow {
        let mut counts = RequestCounts { requests, errors: 1, ..RequestCounts::default() };
        (0..requests).for_each(|_| counts.latency.record(Duration::from_millis(latency_ms)));
        RequestRow { from_ms, covers_ms, model: model.to_owned(), counts }
    }

    /// REPT-08
    #[test]
    fn rows_add_up_by_model_and_those_outside_are_left_out() {
        let rows = [
            row("b", 0, 300_000, 10, 100),
            row("a", 300_000, 300_000, 3, 9),
            row("b", 3_300_000, 300_000, 90, 1_000),
            row("b", -300_000, 300_000, 1_000, 1),
            row("b", 3_600_000, 300_000, 1_000, 1),
        ];
        let models = fold(&rows, WINDOW, Period::Hour);
        assert_eq!(models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let b = &models[1];
        assert_eq!((b.requests, b.errors), (100, 2));
        let latency = b.latency_ms.unwrap();
        assert!((1_000.0..1_070.0).contains(&latency.p50), "{latency:?}");
        assert_eq!(b.first_token_ms, None);
        assert_eq!((b.series.requests[0], b.series.requests[5], b.series.requests[59]), (2.0, 0.0, 18.0));
        assert!(b.series.p95_ms[59].unwrap() >= 1_000.0 && b.series.p95_ms[10].is_none());
    }

    #[test]
    fn an_hours_row_is_shared_out_and_nothing_is_lost() {
        let models = fold(&[row("m", 0, 3_600_000, 120, 5)], WINDOW, Period::Hour);
        assert_eq!(models[0].series.requests, vec![2.0; 60]);
    }

    #[test]
    fn no_rows_are_no_models() {
        assert!(fold(&[], WINDOW, Period::Week).is_empty());
    }
}
