//! Proposals written into the text of a configuration: comments, order and spacing stay.

use std::path::Path;

use rbee_runtime::config::{Config, ConfigError};
use toml_edit::{DocumentMut, InlineTable, Item, Table, Value};

use super::{Proposal, Setting};

/// A text that proposals cannot be written into.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// It is no TOML.
    #[error("the file is no TOML")]
    Syntax(#[from] toml_edit::TomlError),
    /// Something else stands where a table should be.
    #[error("`{key}` cannot be set: what stands there is no table")]
    NoTable {
        /// The key.
        key: String,
    },
    /// The result would be refused.
    #[error("the result would make no sense, and was not written")]
    Refused(#[from] ConfigError),
}

/// The text with every proposal in it; checked as any configuration is.
pub(crate) fn apply(text: &str, proposals: &[Proposal], path: &Path) -> Result<String, ApplyError> {
    let mut document: DocumentMut = text.parse()?;
    for proposal in proposals {
        set(&mut document, &proposal.key, &proposal.to)?;
    }
    let result = document.to_string();
    Config::parse(&result, path)?;
    Ok(result)
}

fn set(document: &mut DocumentMut, key: &str, to: &Setting) -> Result<(), ApplyError> {
    let no_table = || ApplyError::NoTable { key: key.to_owned() };
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().ok_or_else(no_table)?;
    let mut item: &mut Item = document.as_item_mut();
    for (depth, part) in parts.iter().enumerate() {
        let table = item.as_table_like_mut().ok_or_else(no_table)?;
        if !table.contains_key(part) {
            // `limits` and `restart` are one line in a worker's table; what is above has tables of its own.
            let new =
                if depth >= 2 { Item::Value(Value::InlineTable(InlineTable::new())) } else { Item::Table(implicit()) };
            table.insert(part, new);
        }
        item = table.get_mut(part).ok_or_else(no_table)?;
    }
    let value = match to {
        Setting::Number(number) => Value::from(*number),
        Setting::Flag(flag) => Value::from(*flag),
        Setting::Text(text) => Value::from(text.as_str()),
    };
    if let Some(line) = item.as_inline_table_mut().filter(|line| !line.contains_key(last)) {
        append(line, last, value);
        return Ok(());
    }
    put(item.as_table_like_mut().ok_or_else(no_table)?, last, value);
    Ok(())
}

/// At the end of `{ … }`: the space before the bracket stays there.
fn append(line: &mut InlineTable, key: &str, mut value: Value) {
    if let Some((_, last)) = line.iter_mut().last() {
        let decor = last.decor_mut();
        value.decor_mut().set_prefix(" ");
        if let Some(suffix) = decor.suffix().cloned() {
            value.decor_mut().set_suffix(suffix);
        }
        decor.set_suffix("");
    }
    line.insert(key, value);
}

fn implicit() -> Table {
    let mut table = Table::new();
    table.set_implicit(true);
    table
}

/// The value, with what stands around the one it replaces: the comment behind it above all.
fn put(table: &mut dyn toml_edit::TableLike, key: &str, mut value: Value) {
    if let Some(Item::Value(old)) = table.get_mut(key) {
        *value.decor_mut() = old.decor().clone();
        *old = value;
    } else {
        table.insert(key, Item::Value(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# mine\nrole = \"master\"\n\n[model.m]\nsource = \"file:/m.gguf\"\n\n[worker.m]   # our engine\n\
        model = \"m\"\nthreads   =   8     # was quick once\nlimits = { nofile = 64 } # little\n\n# the end\n";

    fn change(key: &str, to: Setting) -> Proposal {
        Proposal { key: key.into(), from: None, to, reason: String::new(), effect: String::new() }
    }

    fn applied(text: &str, key: &str, to: Setting) -> Result<String, ApplyError> {
        apply(text, &[change(key, to)], Path::new("rbee.toml"))
    }

    /// ADVI-34
    #[test]
    fn comments_order_and_spacing_stay() {
        let result = applied(TEXT, "worker.m.threads", Setting::Number(1)).unwrap();
        assert_eq!(result, TEXT.replace("threads   =   8     # was", "threads   =   1     # was"));
        let result = applied(TEXT, "worker.m.limits.nice", Setting::Number(5)).unwrap();
        assert_eq!(result, TEXT.replace("{ nofile = 64 } # little", "{ nofile = 64, nice = 5 } # little"));
        let result = applied(TEXT, "worker.m.restart.backoff_min", Setting::Text("5s".into())).unwrap();
        assert!(result.contains("limits = { nofile = 64 } # little\nrestart = { backoff_min = \"5s\" }\n"), "{result}");
        let long = TEXT.replace("limits = { nofile = 64 } # little\n", "[worker.m.limits]\nnofile = 64\n");
        let result = applied(&long, "worker.m.limits.nice", Setting::Number(5)).unwrap();
        assert!(result.contains("[worker.m.limits]\nnofile = 64\nnice = 5\n"), "{result}");
        assert!(applied(TEXT, "worker.m.mlock", Setting::Flag(true)).unwrap().contains("mlock = true\n"));
    }

    /// ADVI-34
    #[test]
    fn what_would_be_refused_is_not_made() {
        let refused = applied(TEXT, "worker.m.threads", Setting::Number(0)).unwrap_err();
        assert!(matches!(refused, ApplyError::Refused(_)), "{refused}");
        assert!(matches!(applied("role = [", "worker.m.threads", Setting::Number(1)), Err(ApplyError::Syntax(_))));
        assert!(matches!(applied(TEXT, "role.x", Setting::Number(1)), Err(ApplyError::NoTable { .. })));
    }
}
