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
use super::routed::{Care, Routed};
use super::settings::{Settings, Via};
use super::stream::Messages;
use super::way::Way;
use super::ways::Ways;

/// What carries the calls of a client with these settings: each over the way that is its own.
pub(super) fn routed(settings: &Settings) -> Arc<dyn Carrier> {
    let (mut over_grpc, mut ways) = (Vec::new(), Ways::default());
    for target in settings.targets() {
        match target {
            Target::Grpc(_) => over_grpc.push(target),
            Target::Dbus { .. } => ways = ways.with(Way::Dbus, way(settings, &target)),
            Target::Legacy { .. } => ways = ways.with(Way::Legacy, way(settings, &target)),
        }
    }
    if !over_grpc.is_empty() {
        ways = ways.with(Way::Grpc, carrier(settings, &over_grpc));
    }
    let care = Care {
        name: settings.client_name.clone().unwrap_or_default(),
        pinned: match settings.via {
            Via::Auto => None,
            Via::Grpc => Some(Way::Grpc),
            Via::Dbus => Some(Way::Dbus),
            Via::Legacy => Some(Way::Legacy),
        },
        max_retries: settings.max_retries,
        mint_request_ids: settings.mint_request_ids,
        routes_file: settings.routes_file.clone(),
    };
    Arc::new(Routed::new(ways, care))
}

/// What carries calls to the first of `targets` that can be reached.
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
