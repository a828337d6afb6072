//! `queen reload` and `hive reload`: the configuration is read anew; what that did is told.

use rbee_api::{ReloadReply, ReloadRequest};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ui::Ui;

/// Has the daemon at `url` read its configuration anew.
pub(super) async fn reload(context: &Context, url: &str) -> Result<Exit, Failure> {
    let reply = ask(context, url).await?;
    context.ui.answer(&reply, |ui| {
        tell(ui, &reply);
        String::new()
    });
    Ok(Exit::DONE)
}

/// The same, without a word.
pub(super) async fn ask(context: &Context, url: &str) -> Result<ReloadReply, Failure> {
    let _spinner = context.ui.spinner("reloading");
    Ok(context.client(url)?.reload(&ReloadRequest { wait_ms: context.wait_ms() }).await?)
}

/// What it did.
pub(super) fn tell(ui: &Ui, reply: &ReloadReply) {
    let ReloadReply { added, removed, restarted, updated, untouched, needs_hive_restart, needs_queen_restart } = reply;
    for (what, names) in
        [("added", added), ("removed", removed), ("restarted", restarted), ("changed without a restart", updated)]
    {
        if !names.is_empty() {
            ui.done(&format!("{what}: {}", names.join(", ")));
        }
    }
    ui.done(&format!("untouched: {untouched}"));
    for key in needs_hive_restart {
        ui.warn(&format!("`{key}` is read only when the hive starts; its workers survive `kill -9` of it"));
    }
    for key in needs_queen_restart {
        ui.warn(&format!(
            "`{key}` is read only when queen starts: `rbee-keeper queen restart`; hives and workers go on"
        ));
    }
}
