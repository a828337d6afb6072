//! `doctor`: what is wrong here and what to do about it; exit code 1 if anything is.

use serde_json::json;

use crate::context::Context;
use crate::doctor;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ui::findings;

pub(super) async fn run(context: &Context) -> Result<Exit, Failure> {
    let facts = {
        let _spinner = context.ui.spinner("looking");
        doctor::gather(context).await?
    };
    let found = doctor::diagnose(&facts);
    let is_ill = doctor::is_ill(&found);
    context.ui.answer(&json!({ "healthy": !is_ill, "findings": found }), |ui| {
        if !is_ill {
            ui.done("nothing is wrong");
        }
        findings(&found, ui.color())
    });
    Ok(if is_ill { Exit::FAILED } else { Exit::DONE })
}
