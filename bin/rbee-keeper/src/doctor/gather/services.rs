//! Whether installed services are as they would be installed now.

use rbee_runtime::services::{ServiceScope, Services};
use service_definition::Tier;

use super::super::facts::ServiceFact;
use crate::cli::{How, Which};
use crate::context::Context;
use crate::services::Plan;

/// Those whose file is gone or says something else. What cannot be planned here is not judged.
pub(super) async fn differing(context: &Context) -> Vec<ServiceFact> {
    let Ok(installed) = Services::read(&context.dirs.services_file()) else { return Vec::new() };
    let tiers = [(Tier::Queen, installed.queen.clone()), (Tier::Hive, installed.hive.clone())];
    let tiers: Vec<(Tier, String)> = tiers.into_iter().filter_map(|(tier, unit)| Some((tier, unit?))).collect();
    let mut found = Vec::new();
    for (tier, unit) in &tiers {
        found.extend(one(context, &installed, *tier, unit, &tiers).await);
    }
    found
}

async fn one(
    context: &Context,
    installed: &Services,
    tier: Tier,
    unit: &str,
    tiers: &[(Tier, String)],
) -> Option<ServiceFact> {
    let is_system = installed.scope == ServiceScope::System;
    let name = unit.strip_suffix(&format!("-{}.service", tier.word()))?.parse().ok()?;
    let which = Which { system: is_system, user: !is_system, name, ..Which::default() };
    let all: Vec<Tier> = tiers.iter().map(|(tier, _)| *tier).collect();
    let plan = |how: How| {
        let (which, all) = (which.clone(), all.clone());
        async move { Plan::new(context, &which, &how, |_, _| all).await.ok() }
    };
    let first = plan(How::default()).await?;
    let path = first.services.iter().find(|planned| planned.tier == tier)?.service.path.clone();
    let Ok(there) = std::fs::read_to_string(&path) else {
        return Some(ServiceFact { name: unit.to_owned(), file: path, is_missing: true });
    };
    // What was said at the installation is kept in the file alone.
    let said = |key: &str| there.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
    let how = How { run_as: said("User=").filter(|_| is_system), description: said("Description=") };
    let second = plan(how).await?;
    let now = &second.services.iter().find(|planned| planned.tier == tier)?.service.text;
    (without_path(now) != without_path(&there)).then(|| ServiceFact {
        name: unit.to_owned(),
        file: path,
        is_missing: false,
    })
}

/// The caller's PATH is another one in every shell.
fn without_path(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !(line.starts_with("Environment=") && line.contains("PATH="))).collect()
}
