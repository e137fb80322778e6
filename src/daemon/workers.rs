//! Chooses how workers are started, and says so. What they do is not known here.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::sync::Arc;

use crate::config::{self, Worker};
use crate::host::worker::{ExecService, OwnUid, Starter, Workers};
use crate::metrics::Metrics;
use crate::status::Status;

/// The workers as the configuration wants them; none are started yet.
pub(super) fn prepare(config: &Worker, metrics: &Arc<Metrics>, status: &Status) -> Arc<Workers> {
    let metrics = Arc::clone(metrics);
    let workers = match config.enabled {
        true => Workers::new(config.workers.clone(), starter(config), metrics),
        false => Workers::disabled(metrics),
    };
    let how = workers.describe();
    tracing::info!("workers: {how}");
    status.workers(how);
    workers
}

fn starter(config: &Worker) -> Box<dyn Starter> {
    let listens =
        || fs::metadata(&config.exec_socket).is_ok_and(|found| found.file_type().is_socket());
    let by_service = match config.starter {
        config::Starter::Auto => listens(),
        config::Starter::OwnUid => false,
        config::Starter::ExecService => true,
    };
    match by_service {
        true => Box::new(ExecService::new(config.exec_socket.clone())),
        false => Box::new(OwnUid::new()),
    }
}
