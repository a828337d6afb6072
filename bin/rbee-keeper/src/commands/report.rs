//! `report`: how the last hour, day or week went.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use rbee_api::report::Report;
use serde_json::json;

use crate::cli::{ReportArgs, ReportFormat};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::report;

/// Columns of a text that goes to no terminal.
const FILE_COLUMNS: usize = 80;

pub(super) async fn run(context: &Context, args: ReportArgs) -> Result<Exit, Failure> {
    let format = format(context, &args)?;
    let file = args.output.filter(|path| path.as_os_str() != "-");
    let config = context.config()?.config;
    let found = {
        let _spinner = context.ui.spinner(&format!("gathering the report of the last {}", args.period));
        context.call(&config, async |client| client.report(args.period).await).await?
    };
    let Some(file) = file else {
        let columns = context.ui.columns().unwrap_or(FILE_COLUMNS);
        let text = render(&found, format, columns, context.ui.color())?;
        return match context.ui.stream(text.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new("output", "cannot write").because(&error))
            }
            _ => Ok(Exit::DONE),
        };
    };
    let text = render(&found, format, FILE_COLUMNS, false)?;
    let size = text.len();
    let path = file.clone();
    context.blocking(move || write(&path, text.as_bytes())).await?;
    let missing: Vec<&str> = found.missing.iter().map(|missing| missing.hive.as_str()).collect();
    let answer = json!({ "file": &file, "format": format.as_str(), "bytes": size, "missing": &missing });
    context.ui.answer(&answer, |ui| {
        ui.done(&format!("{} has the report of the last {}", file.display(), found.period));
        String::new()
    });
    if !missing.is_empty() {
        context.ui.warn(&format!("it lacks what these hives know: {}", missing.join(", ")));
    }
    Ok(Exit::DONE)
}

/// With `--json` stdout has one JSON document: the report, or where it was written.
fn format(context: &Context, args: &ReportArgs) -> Result<ReportFormat, Failure> {
    let is_json = context.ui.is_json();
    let to_file = args.output.as_ref().is_some_and(|path| path.as_os_str() != "-");
    match args.format {
        None if is_json => Ok(ReportFormat::Json),
        None => Ok(ReportFormat::Text),
        Some(format) if is_json && !to_file && format != ReportFormat::Json => {
            let message = format!("--json and --format {} want two things of one output", format.as_str());
            Err(Failure::new("usage", message)
                .hint(format!("leave --json out, or add --output FILE for the {}", format.as_str()))
                .exit(Exit::USAGE))
        }
        Some(format) => Ok(format),
    }
}

fn render(found: &Report, format: ReportFormat, columns: usize, color: bool) -> Result<String, Failure> {
    match format {
        ReportFormat::Text => Ok(report::text(found, columns, color)),
        ReportFormat::Json => serde_json::to_string_pretty(found)
            .map(|text| text + "\n")
            .map_err(|error| Failure::new("internal", "the report cannot be written as JSON").because(&error)),
        ReportFormat::Html => report::html(found)
            .map_err(|error| Failure::new("internal", "the report cannot be written as HTML").because(&error)),
    }
}

/// All of it or nothing: a reader never sees half a report.
fn write(path: &Path, text: &[u8]) -> Result<(), Failure> {
    let failed = |error: &io::Error| {
        let failure = Failure::new("output", format!("cannot write {}", path.display())).because(error);
        match error.kind() {
            io::ErrorKind::NotFound => failure.hint("make its folder first"),
            io::ErrorKind::PermissionDenied => failure.hint("choose a file in a folder of yours"),
            _ => failure,
        }
    };
    // A pipe or a device is written as it is.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return fs::write(path, text).map_err(|error| failed(&error));
    }
    let mut file = atomic_write_file::AtomicWriteFile::open(path).map_err(|error| failed(&error))?;
    file.write_all(text).and_then(|()| file.commit()).map_err(|error| failed(&error))
}
