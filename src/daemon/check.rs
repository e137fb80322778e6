//! `--check-config`: shows what would hold, as TOML. It starts nothing and touches no state.

use std::fmt::Write as _;
use std::io::Write as _;

use super::{Args, Exit, Failure, reload, service};
use crate::agents;
use crate::config::Loaded;
use crate::contract::Contract;

/// Prints the configuration that would hold.
pub(super) fn check(args: &Args) -> Result<Exit, Failure> {
    let config = args.load_config()?;
    if let Some(grpc) = &config.settings.grpc {
        service::load_access(&grpc.access)?;
    }
    let mut text = show(&config);
    for warning in reload::missing_agents(&config.settings.agents, &agents_of_this_build()?) {
        writeln!(text, "# Warning: {warning}").map_err(cannot_print)?;
    }
    std::io::stdout().write_all(text.as_bytes()).map_err(cannot_print)?;
    Ok(Exit::Success)
}

fn show(config: &Loaded) -> String {
    let files: Vec<_> = config.files.iter().map(|file| file.display().to_string()).collect();
    let files =
        if files.is_empty() { "none, so the defaults hold".to_owned() } else { files.join(", ") };
    format!("# The configuration is valid. Files: {files}\n{}", config.annotated())
}

fn agents_of_this_build() -> Result<Vec<String>, Failure> {
    let failure = |error| Failure::part("the contract is wrong", &error, Exit::Internal);
    let contract = Contract::built_in().map_err(failure)?;
    let services = agents::ALL.iter().map(|agent| agent.service);
    services
        .chain(agents::FOR_WORKERS.iter().map(|agent| agent.service))
        .map(|service| Ok(contract.service(service).map_err(failure)?.id.clone()))
        .collect()
}

fn cannot_print(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Os, "the result cannot be printed", error)
}
