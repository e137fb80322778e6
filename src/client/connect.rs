//! Puts the ways to the service together, as the settings want them. What each way is, is its own matter.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::address::Target;
use super::call::{Call, Payload, StreamCall};
use super::carrier::{Carrier, Pending};
use super::dbus::Dbus;
use super::error::Error;
use super::first::First;
use super::grpc::Grpc;
use super::legacy::Legacy;
use super::settings::Settings;
use super::stream::Messages;
use super::way::Way;

/// What carries the calls of a client with these settings to `targets`.
pub(super) fn carrier(settings: &Settings, targets: &[Target]) -> Arc<dyn Carrier> {
    let mut ways: Vec<Arc<dyn Carrier>> =
        targets.iter().map(|target| way(settings, target)).collect();
    match ways.len() {
        1 => ways.remove(0),
        _ => Arc::new(First::new(ways)),
    }
}

fn way(settings: &Settings, target: &Target) -> Arc<dyn Carrier> {
    let broken = |way, problem| Arc::new(Broken { way, target: target.to_string(), problem });
    match target {
        Target::Grpc(address) => match Grpc::new(address, settings) {
            Ok(way) => Arc::new(way),
            Err(problem) => broken(Way::Grpc, problem),
        },
        Target::Dbus { bus, name } => {
            let settings = Settings { bus: bus.clone(), name: name.clone(), ..settings.clone() };
            match Dbus::new(&settings) {
                Ok(way) => Arc::new(way),
                Err(problem) => broken(Way::Dbus, problem),
            }
        }
        Target::Legacy { bus } => {
            Arc::new(Legacy::new(&Settings { bus: bus.clone(), ..settings.clone() }))
        }
    }
}

/// A way that cannot be: its settings lack something.
#[derive(Debug)]
struct Broken {
    way: Way,
    target: String,
    problem: String,
}

impl Broken {
    fn error(&self) -> Error {
        Error::unreachable(self.target.clone(), self.problem.clone())
    }
}

impl Carrier for Broken {
    fn way(&self) -> Way {
        self.way
    }

    fn target(&self) -> String {
        self.target.clone()
    }

    fn ready(&self) -> Pending<'_, ()> {
        async { Err(self.error()) }.boxed()
    }

    fn call(&self, _: Call) -> Pending<'_, Payload> {
        async { Err(self.error()) }.boxed()
    }

    fn stream(&self, _: StreamCall) -> Pending<'_, Messages> {
        async { Err(self.error()) }.boxed()
    }
}
