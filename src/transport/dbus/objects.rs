//! Which objects there are, and what each has: a table built from the executor's routes. It finds; it
//! answers nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::error::{Failure, Standard};
use super::legacy::{LegacyName, Older, OlderMethod};
use super::plan::{self, Method};
use super::standard::{StandardMethod, no_interface, no_object};
use super::task;
use crate::contract::{MANAGER_PATH, Operation, SESSIONS_PATH, Service, TASKS_PATH, object_path};
use crate::error::Error;
use crate::executor::{Route, Routes};
use crate::session;

/// The interface that every agent has beside its own.
pub(super) const AGENT_INTERFACE: &str = "org.opdbus.Agent1";

/// All objects.
pub(super) struct Table {
    /// What the table was built from. Held, so that its address stays its own.
    routes: Arc<Routes>,
    objects: HashMap<String, Object>,
}

/// One object.
#[derive(Default)]
pub(super) struct Object {
    /// The services whose interfaces it has: one for an agent, none for a mere parent.
    pub(super) services: Vec<Served>,
    /// What older clients know it as, if they do.
    pub(super) older: Option<Arc<Older>>,
    /// The last elements of the paths of the objects below it.
    pub(super) children: BTreeSet<String>,
}

/// A service with the methods that can be called.
pub(super) struct Served {
    pub(super) service: Arc<Service>,
    methods: HashMap<String, Arc<Typed>>,
}

/// A method of a typed interface.
pub(super) struct Typed {
    pub(super) method: Arc<Method>,
    pub(super) route: Arc<Route>,
}

/// What a call is for.
pub(super) enum Target {
    Typed(Arc<Typed>),
    /// `org.opdbus.Agent1.CallJson` of the agent.
    CallJson(Arc<Service>),
    Standard(StandardMethod),
    /// Whatever the object of a task is asked, if it is there for the caller.
    Task,
    /// The same of a session.
    Session,
    /// A method of an older agent.
    Older(Arc<Older>, OlderMethod),
}

impl Table {
    /// The table for `routes`, with the older agents called `legacy` of those that are there. What
    /// `previous` has compiled for the same services is used again.
    pub(super) fn new(routes: Arc<Routes>, legacy: &[LegacyName], previous: Option<&Self>) -> Self {
        let mut objects = HashMap::new();
        for path in ["/", MANAGER_PATH, SESSIONS_PATH, TASKS_PATH] {
            insert(&mut objects, path);
        }
        for served in routes.services().filter(|served| !served.service.gateway) {
            let service = &served.service;
            match methods(service, &served.routes, previous) {
                Ok(methods) => insert(&mut objects, &service.object_path)
                    .services
                    .push(Served { service: Arc::clone(service), methods }),
                Err(error) => {
                    tracing::error!("{} cannot be served on D-Bus: {error}", service.full_name);
                }
            }
        }
        for name in legacy {
            let done_by = routes.services().find(|served| served.service.id == name.agent_id());
            if let Some(served) = done_by {
                let older = Older::new(name.clone(), Arc::clone(&served.service));
                insert(&mut objects, &name.path()).older = Some(Arc::new(older));
            }
        }
        for object in objects.values_mut() {
            object.services.sort_by(|a, b| a.service.interface.cmp(&b.service.interface));
        }
        Self { routes, objects }
    }

    /// True if the table was built from these routes.
    pub(super) fn is_for(&self, routes: &Arc<Routes>) -> bool {
        Arc::ptr_eq(&self.routes, routes)
    }

    /// The object at a path.
    pub(super) fn object(&self, path: &str) -> Option<&Object> {
        self.objects.get(path)
    }

    /// The object of every agent with its path, in no order.
    pub(super) fn agents(&self) -> impl Iterator<Item = (&str, &Object)> {
        let objects = self.objects.iter().filter(|(_, object)| object.agent().is_some());
        objects.map(|(path, object)| (path.as_str(), object))
    }

    /// What older clients know the agent as, be it once or with several instances.
    pub(super) fn older(&self, agent: &str) -> impl Iterator<Item = &Arc<Older>> {
        let older = self.objects.values().filter_map(|object| object.older.as_ref());
        older.filter(move |older| older.agent_id() == agent)
    }

    /// What a call is for.
    ///
    /// # Errors
    /// Which of object, interface and method does not exist.
    pub(super) fn resolve(
        &self,
        path: &str,
        interface: Option<&str>,
        member: &str,
    ) -> Result<Target, Failure> {
        let Some(object) = self.object(path) else {
            // A peer answers for itself, whichever object is named.
            return match StandardMethod::of_peer(interface, member) {
                Some(method) => Ok(Target::Standard(method)),
                None if task::id_in(path).is_some() => Ok(Target::Task),
                None if session::object_path::scope(path).is_some() => Ok(Target::Session),
                None => Err(no_object(path)),
            };
        };
        object.resolve(path, interface, member)
    }

    /// The method of an agent's operation.
    pub(super) fn typed(&self, operation: &Operation) -> Option<&Arc<Typed>> {
        let object = self.object(&object_path(&operation.agent, false))?;
        object.services.iter().find_map(|served| served.methods.get(&operation.name))
    }

    fn served(&self, service: &Arc<Service>) -> Option<&Served> {
        let object = self.object(&service.object_path)?;
        object.services.iter().find(|served| Arc::ptr_eq(&served.service, service))
    }
}

impl Object {
    /// True for the object that lists the agents.
    pub(super) fn is_manager(&self) -> bool {
        self.services.iter().any(|served| served.service.manager)
    }

    /// The agent, if the object is one.
    pub(super) fn agent(&self) -> Option<&Arc<Service>> {
        let service = &self.services.first()?.service;
        (!service.manager).then_some(service)
    }

    /// True if the object has the interface.
    pub(super) fn has_interface(&self, interface: &str) -> bool {
        self.services.iter().any(|served| served.service.interface == interface)
            || (interface == AGENT_INTERFACE && self.agent().is_some())
            || self.older.as_ref().is_some_and(|older| older.interfaces().contains(&interface))
            || StandardMethod::is_interface(interface, self.is_manager())
    }

    fn resolve(
        &self,
        path: &str,
        interface: Option<&str>,
        member: &str,
    ) -> Result<Target, Failure> {
        // Without an interface the first one that has the member is meant.
        let is_meant = |name: &str| interface.is_none_or(|interface| interface == name);
        for served in &self.services {
            if is_meant(&served.service.interface)
                && let Some(typed) = served.methods.get(member)
            {
                return Ok(Target::Typed(Arc::clone(typed)));
            }
        }
        if is_meant(AGENT_INTERFACE)
            && member == "CallJson"
            && let Some(agent) = self.agent()
        {
            return Ok(Target::CallJson(Arc::clone(agent)));
        }
        if let Some(older) = &self.older
            && let Some(method) = older.method(interface, member)
        {
            return Ok(Target::Older(Arc::clone(older), method));
        }
        if let Some(method) = StandardMethod::find(interface, member, self.is_manager()) {
            return Ok(Target::Standard(method));
        }
        Err(match interface {
            Some(interface) if !self.has_interface(interface) => no_interface(path, interface),
            _ => Failure::Standard(Standard::UnknownMethod, self.no_method(interface, member)),
        })
    }

    fn no_method(&self, interface: Option<&str>, member: &str) -> String {
        let mut known: Vec<&str> = self
            .services
            .iter()
            .filter(|served| interface.is_none_or(|name| name == served.service.interface))
            .flat_map(|served| served.methods.keys().map(String::as_str))
            .chain(self.older.iter().flat_map(|older| older.members(interface)))
            .collect();
        known.sort_unstable();
        let whose = interface.unwrap_or("the object");
        if known.is_empty() {
            format!("{whose} has no method {member}")
        } else {
            format!("{whose} has no method {member}; it has {}", known.join(", "))
        }
    }
}

/// The object at `path`, added with all that lie above it if it is not there.
fn insert<'a>(objects: &'a mut HashMap<String, Object>, path: &str) -> &'a mut Object {
    if path != "/" && !objects.contains_key(path) {
        let (parent, name) = path.rsplit_once('/').unwrap_or_default();
        let parent = if parent.is_empty() { "/" } else { parent };
        insert(objects, parent).children.insert(name.to_owned());
    }
    objects.entry(path.to_owned()).or_default()
}

fn methods(
    service: &Arc<Service>,
    routes: &[Arc<Route>],
    previous: Option<&Table>,
) -> Result<HashMap<String, Arc<Typed>>, Error> {
    let typed = |index: usize, method: Arc<Method>| {
        let route = Arc::clone(&routes[index]);
        (route.operation.name.clone(), Arc::new(Typed { method, route }))
    };
    if let Some(served) = previous.and_then(|table| table.served(service)) {
        let methods = served.methods.values();
        return Ok(methods
            .map(|old| typed(old.route.operation.index, Arc::clone(&old.method)))
            .collect());
    }
    let compiled = plan::compile(service)?;
    Ok(compiled.into_iter().map(|(operation, method)| typed(operation.index, method)).collect())
}
