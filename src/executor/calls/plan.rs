//! A batch that has been read and checked: which calls it makes, with what, and in which order. It
//! makes none.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::consume_budget;

use super::Config;
use super::order::{Access, Order};
use super::request::{self, Payload};
use super::template::Template;
use crate::error::Error;
use crate::executor::{Executor, Route};
use crate::metrics::Rejection;
use crate::proto::opdbus::v1::{BatchCallRequest, BatchItem, BatchOrder, Risk};

const MAX_ID_BYTES: usize = 128;
const MAX_REQUEST_ID_CHARS: usize = 128;

/// A batch that can be run.
pub(super) struct Plan {
    pub(super) items: Vec<Item>,
    pub(super) order: Order,
    /// How many run side by side.
    pub(super) width: usize,
    pub(super) stop_on_error: bool,
    /// True if results come as the calls end.
    pub(super) as_completed: bool,
}

/// One call.
pub(super) struct Item {
    pub(super) id: String,
    /// What to do; or why it cannot be done, which is told in its turn. `None` once that has come.
    pub(super) work: Option<Result<Work, Error>>,
    pub(super) is_json: bool,
    /// Those that use its result.
    pub(super) users: Vec<usize>,
}

/// What a call does.
pub(super) struct Work {
    pub(super) route: Arc<Route>,
    pub(super) arguments: Arguments,
    pub(super) timeout: Option<Duration>,
    pub(super) request_id: Option<Box<str>>,
}

/// What a call is given.
pub(super) enum Arguments {
    Encoded(Bytes),
    /// JSON that uses the results of others, and for each of them the places where they go.
    Template(Template, BTreeMap<usize, Vec<usize>>),
}

impl Plan {
    /// Checks a batch as a whole.
    ///
    /// # Errors
    /// `LimitExceeded` if it has too many calls; `InvalidArgument` naming what is wrong with its
    /// structure. What is wrong with one call is in [`Item::work`].
    ///
    /// # Cancel safety
    /// Nothing is done.
    pub(super) async fn new(
        executor: &Executor,
        config: &Config,
        mut request: BatchCallRequest,
    ) -> Result<Self, Error> {
        let count = request.items.len();
        if count > config.max_items {
            let problem = format!("the batch has {count} calls");
            return Err(Error::limit("batch.max_items", config.max_items, problem));
        }
        let width = width(config, &request)?;
        let as_completed = match BatchOrder::try_from(request.order) {
            Ok(BatchOrder::Unspecified | BatchOrder::Request) => false,
            Ok(BatchOrder::Completion) => true,
            Err(_) => return Err(Error::invalid("order", "is no order of results")),
        };
        let routes = routes(executor, &request.items);
        for (index, route) in routes.iter().enumerate() {
            if let Ok(route) = route {
                check_operation(index, route)?;
            }
        }
        let ids = ids(&request.items)?;
        let mut order = Order::new(count);
        let mut items = Vec::with_capacity(count);
        for ((index, item), route) in request.items.iter_mut().enumerate().zip(routes) {
            for id in &item.after {
                order.add(known(&ids, index, "after", id)?, index);
            }
            let is_json = item.request.is_none();
            let mut work = route.and_then(|route| {
                work(route, item).inspect_err(|_| executor.reject(Rejection::InvalidRequest))
            });
            if let Ok(Work { arguments: Arguments::Template(template, places), .. }) = &mut work {
                for (id, positions) in template.places() {
                    places.insert(known(&ids, index, "arguments", &id)?, positions);
                }
            }
            items.push(Item { id: String::new(), work: Some(work), is_json, users: Vec::new() });
            // Reading a thousand requests must not keep others waiting.
            consume_budget().await;
        }
        drop(ids);
        for (item, read) in items.iter_mut().zip(request.items) {
            item.id = read.id;
        }
        let mut plan =
            Self { items, order, width, stop_on_error: request.stop_on_error, as_completed };
        plan.link();
        let sequence = plan.order.sequence().map_err(|circle| plan.refuse_circle(&circle))?;
        plan.keep_order(&sequence);
        Ok(plan)
    }

    /// Lets those that use a result wait for it.
    fn link(&mut self) {
        for index in 0..self.items.len() {
            for other in self.items[index].uses() {
                self.items[other].users.push(index);
                self.order.add(other, index);
            }
        }
    }

    /// Lets calls on the same thing keep their order, if there is a write among them.
    fn keep_order(&mut self, sequence: &[usize]) {
        if self.width == 1 {
            return;
        }
        let accesses: Vec<_> = self.items.iter().map(Item::access).collect();
        if accesses.iter().flatten().any(|access| access.writes) {
            self.order.keep(sequence, &accesses);
        }
    }

    fn refuse_circle(&self, circle: &[usize]) -> Error {
        let names: Vec<String> = circle.iter().map(|index| self.name(*index)).collect();
        let first = circle.first().copied().unwrap_or_default();
        Error::invalid(
            format!("items[{first}]"),
            format_args!("waits for itself: a circle of {}", names.join(", ")),
        )
    }

    /// How errors call a call.
    pub(super) fn name(&self, index: usize) -> String {
        match self.items[index].id.as_str() {
            "" => format!("items[{index}]"),
            id => format!("items[{index}] ({id})"),
        }
    }
}

impl Item {
    /// The calls whose results it uses.
    fn uses(&self) -> Vec<usize> {
        match &self.work {
            Some(Ok(Work { arguments: Arguments::Template(_, places), .. })) => {
                places.keys().copied().collect()
            }
            Some(_) | None => Vec::new(),
        }
    }

    fn access(&self) -> Option<Access<'_>> {
        let work = self.work.as_ref()?.as_ref().ok()?;
        let operation = &work.route.operation;
        let key = match &work.arguments {
            Arguments::Encoded(request) => operation.key_of(request),
            // The key may come with a result.
            Arguments::Template(..) => None,
        };
        Some(Access { agent: &operation.agent, key, writes: operation.risk != Risk::Read })
    }
}

fn width(config: &Config, request: &BatchCallRequest) -> Result<usize, Error> {
    let wanted = usize::try_from(request.max_parallel).unwrap_or(usize::MAX);
    match (request.parallel, wanted) {
        (false, 0) => Ok(1),
        (false, _) => {
            Err(Error::invalid("max_parallel", "has a meaning only together with parallel"))
        }
        (true, 0) => Ok(config.max_parallel),
        (true, wanted) => Ok(wanted.min(config.max_parallel)),
    }
}

/// The operations that the calls name; each is looked up once.
fn routes(executor: &Executor, items: &[BatchItem]) -> Vec<Result<Arc<Route>, Error>> {
    let mut found: HashMap<(&str, &str), Arc<Route>> = HashMap::new();
    items
        .iter()
        .map(|item| {
            let name = (item.agent.as_str(), item.operation.as_str());
            if let Some(route) = found.get(&name) {
                return Ok(Arc::clone(route));
            }
            let route = executor.find(name.0, name.1)?;
            found.insert(name, Arc::clone(&route));
            Ok(route)
        })
        .collect()
}

/// Refuses what a batch does not make: streams, and calls that make calls.
fn check_operation(index: usize, route: &Route) -> Result<(), Error> {
    let operation = &route.operation;
    let problem = match () {
        () if operation.is_streaming() => "is a stream; start it with calls.StartCall",
        () if route.makes_calls() => "makes or awaits other calls; name those themselves",
        () => return Ok(()),
    };
    let name = format!("{}.{}", operation.agent, operation.name);
    Err(Error::invalid(format!("items[{index}].operation"), format_args!("{name} {problem}")))
}

/// The positions of the calls that have an id.
fn ids(items: &[BatchItem]) -> Result<HashMap<String, usize>, Error> {
    let mut ids = HashMap::new();
    for (index, item) in items.iter().enumerate().filter(|(_, item)| !item.id.is_empty()) {
        let invalid = |problem: String| Error::invalid(format!("items[{index}].id"), problem);
        if item.id.len() > MAX_ID_BYTES || item.id.contains('/') {
            return Err(invalid(format!("must be {MAX_ID_BYTES} bytes at most, without /")));
        }
        if let Some(other) = ids.insert(item.id.clone(), index) {
            return Err(invalid(format!("{:?} is the id of items[{other}], too", item.id)));
        }
    }
    Ok(ids)
}

/// The position of the call `id` that `items[index]` names in `field`.
fn known(
    ids: &HashMap<String, usize>,
    index: usize,
    field: &str,
    id: &str,
) -> Result<usize, Error> {
    let invalid = |problem| {
        Error::invalid(format!("items[{index}].{field}"), format_args!("{id:?} {problem}"))
    };
    match ids.get(id) {
        None => Err(invalid("is the id of no call of the batch")),
        Some(other) if *other == index => Err(invalid("is the call itself")),
        Some(other) => Ok(*other),
    }
}

/// Takes out of an item what it does.
fn work(route: Arc<Route>, item: &mut BatchItem) -> Result<Work, Error> {
    let timeout = request::timeout(item.timeout)?;
    let length = item.request_id.chars().count();
    if length > MAX_REQUEST_ID_CHARS {
        let problem = format!("must have {MAX_REQUEST_ID_CHARS} characters at most, not {length}");
        return Err(Error::invalid("request_id", problem));
    }
    let request_id = (length > 0).then(|| std::mem::take(&mut item.request_id).into());
    let json = std::mem::take(&mut item.arguments);
    let arguments = match request::payload(json, item.request.take())? {
        Payload::Encoded(request) => Arguments::Encoded(request),
        Payload::Json(json) => match Template::parse(&json)? {
            Some(template) => Arguments::Template(template, BTreeMap::new()),
            None => Arguments::Encoded(request::encode(&route, &json)?),
        },
    };
    Ok(Work { route, arguments, timeout, request_id })
}
