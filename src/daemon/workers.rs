//! Chooses how workers are started, and says so. What they do is not known here.

use std::sync::Arc;

use crate::host::worker::{Config, OwnUid, Starter, Workers};
use crate::metrics::Metrics;
use crate::status::Status;

/// The workers as the configuration wants them; none are started yet.
pub(super) fn prepare(
    config: Option<Config>,
    metrics: &Arc<Metrics>,
    status: &Status,
) -> Arc<Workers> {
    let workers = match config {
        Some(config) => {
            let starter: Box<dyn Starter> = Box::new(OwnUid::new());
            Workers::new(config, starter, Arc::clone(metrics))
        }
        None => Workers::disabled(Arc::clone(metrics)),
    };
    let how = workers.describe();
    tracing::info!("workers: {how}");
    status.workers(how);
    workers
}
