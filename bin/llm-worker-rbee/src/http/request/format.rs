//! `response_format`.

use rbee_api::ApiError;
use serde_json::Value;

use super::{invalid, unsupported};

/// What an answer must look like.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::http) enum Wanted {
    #[default]
    Anything,
    /// Some JSON object.
    Object,
    /// JSON of this schema.
    Schema(Value),
}

pub(super) fn check(format: Option<Value>) -> Result<Wanted, ApiError> {
    let Some(format) = format else { return Ok(Wanted::Anything) };
    let Some(kind) = format["type"].as_str() else {
        return Err(invalid("response_format.type", "must be `text`, `json_object` or `json_schema`"));
    };
    match kind {
        "text" => Ok(Wanted::Anything),
        "json_object" => Ok(Wanted::Object),
        "json_schema" => schema(&format["json_schema"]),
        "grammar" | "python" => Err(unsupported("response_format.type")),
        other => {
            let problem = format!("must be `text`, `json_object` or `json_schema`, not `{other}`");
            Err(invalid("response_format.type", &problem))
        }
    }
}

fn schema(described: &Value) -> Result<Wanted, ApiError> {
    const PARAM: &str = "response_format.json_schema";
    if !described.is_object() {
        return Err(invalid(PARAM, "is missing, or no object"));
    }
    if !described["name"].as_str().is_some_and(super::tools::is_name) {
        return Err(invalid(&format!("{PARAM}.name"), super::tools::NAME_PROBLEM));
    }
    match &described["schema"] {
        Value::Null => Ok(Wanted::Object),
        schema @ Value::Object(_) => Ok(Wanted::Schema(schema.clone())),
        _ => Err(invalid(&format!("{PARAM}.schema"), "must be a JSON schema object")),
    }
}
