//! Some of the differences that comparisons found, until the service is told them. How many there were,
//! the metrics know.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::compare::Place;
use crate::client::Rpc;
use crate::client::routed::name;
use crate::proto::opdbus::v1::Difference;

/// The most samples of one operation, as many as one report may bear.
const MAX_SAMPLES: usize = 8;

/// The most operations with samples.
const MAX_OPERATIONS: usize = 1000;

/// The longest name of a place that is told, in bytes; of a longer one its begin.
const MAX_FIELD_BYTES: usize = 256;

/// The samples by operation, as `memory.Recall`.
#[derive(Debug, Default)]
pub(in crate::client) struct Samples(Mutex<HashMap<String, Vec<Difference>>>);

impl Samples {
    /// Keeps some of the places at which one call of an operation differed.
    pub(super) fn add(&self, rpc: &Rpc, places: Vec<Place>) {
        if places.is_empty() {
            return;
        }
        let seen = Some(SystemTime::now().into());
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let operation = format!("{}.{}", rpc.agent, name(rpc));
        if !samples.contains_key(&operation) && samples.len() >= MAX_OPERATIONS {
            return;
        }
        let kept = samples.entry(operation).or_default();
        for place in places {
            let is_known = kept.iter().any(|known| known.field == place.field);
            if !is_known && kept.len() < MAX_SAMPLES {
                let mut field = place.field;
                while field.len() > MAX_FIELD_BYTES {
                    field.pop();
                }
                kept.push(Difference { field, dbus: place.one, grpc: place.other, seen });
            }
        }
    }

    /// Takes those of one operation.
    pub(in crate::client) fn take(&self, operation: &str) -> Vec<Difference> {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.remove(operation).unwrap_or_default()
    }
}
