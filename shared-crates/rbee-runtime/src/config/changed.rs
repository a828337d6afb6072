//! Which keys of a table say something else than before.

use serde::Serialize;
use serde_json::{Map, Value};

/// The keys of `[table]` in which `now` differs from `before`, as `table.key`, by name; without those in `except`.
#[must_use]
pub fn changed_keys<T: Serialize>(table: &str, before: &T, now: &T, except: &[&str]) -> Vec<String> {
    let (before, now) = (keys(before), keys(now));
    let differs = |(key, value): &(&String, &Value)| before.get(*key) != Some(value) && !except.contains(&key.as_str());
    now.iter().filter(differs).map(|(key, _)| format!("{table}.{key}")).collect()
}

fn keys(table: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(table) {
        Ok(Value::Object(keys)) => keys,
        _ => Map::new(),
    }
}
