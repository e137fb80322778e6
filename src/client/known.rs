//! The operations that this build knows, and how each is called over D-Bus. An agent that came later is
//! called with JSON.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::call::Rpc;
use crate::contract::{Contract, Operation, Service};
use crate::error::Error;
use crate::wire::dbus::plan::{self, Compiled, Method};

/// An operation that this build knows.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) service: &'static Service,
    pub(super) operation: &'static Operation,
    plans: &'static Plans,
}

impl Known {
    /// How it is called over D-Bus; `None` if it is not there.
    ///
    /// # Errors
    /// `Internal` if a type of its service has no form on D-Bus.
    pub(super) fn method(&self) -> Result<Option<&'static Arc<Method>>, Error> {
        let compiled = self.plans.0.get_or_init(|| plan::compile(self.service));
        let compiled = compiled.as_ref().map_err(Clone::clone)?;
        let index = self.operation.index;
        let found = compiled.iter().find(|(operation, _)| operation.index == index);
        Ok(found.map(|(_, method)| method))
    }
}

/// How the methods of one service are called, compiled when one first is.
#[derive(Debug, Default)]
struct Plans(OnceLock<Result<Vec<Compiled>, Error>>);

struct Table {
    services: Vec<(Arc<Service>, Plans)>,
    /// By the path on gRPC: the positions of the service and of the operation.
    by_path: HashMap<String, (usize, usize)>,
    /// By agent and name, in which case and underscores do not count.
    by_name: HashMap<String, (usize, usize)>,
}

impl Table {
    fn new() -> Result<Self, Error> {
        let contract = Contract::built_in()?;
        let (mut by_path, mut by_name) = (HashMap::new(), HashMap::new());
        for (at, service) in contract.services.iter().enumerate() {
            for (index, operation) in service.operations.iter().enumerate() {
                by_path.insert(operation.grpc_path.clone(), (at, index));
                by_name.insert(plain(&service.id, &operation.name), (at, index));
            }
        }
        let services = contract.services.into_iter().map(|service| (service, Plans::default()));
        Ok(Self { services: services.collect(), by_path, by_name })
    }

    fn known(&'static self, (at, index): (usize, usize)) -> Option<Known> {
        let (service, plans) = self.services.get(at)?;
        Some(Known { service, operation: service.operations.get(index)?, plans })
    }
}

fn table() -> Result<&'static Table, Error> {
    static TABLE: OnceLock<Result<Table, Error>> = OnceLock::new();
    TABLE.get_or_init(Table::new).as_ref().map_err(Clone::clone)
}

fn plain(agent: &str, operation: &str) -> String {
    let letters = operation.chars().filter(|letter| *letter != '_');
    let mut name = format!("{agent}.");
    name.extend(letters.map(|letter| letter.to_ascii_lowercase()));
    name
}

/// The operation at a path on gRPC.
///
/// # Errors
/// `Internal` if the compiled-in descriptors are damaged.
pub(super) fn at(path: &str) -> Result<Option<Known>, Error> {
    let table = table()?;
    Ok(table.by_path.get(path).and_then(|place| table.known(*place)))
}

/// The operation of an agent, as `memory` and `Recall` or `recall`; one of which nothing but its name is
/// known if this build does not know it.
pub(super) fn named(agent: &str, operation: &str) -> Rpc {
    let place = table().ok().and_then(|table| {
        table.by_name.get(&plain(agent, operation)).and_then(|place| table.known(*place))
    });
    match place {
        // As the caller writes it: what the service answers names it so.
        Some(known) => {
            Rpc { operation: Cow::Owned(operation.to_owned()), ..Rpc::from(known.operation) }
        }
        None => Rpc::unknown(agent, operation),
    }
}
