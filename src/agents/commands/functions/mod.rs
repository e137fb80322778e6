//! Functions: programs under names, which administrators register and everybody calls. They are kept by the
//! daemon; a call is checked here and then run in its caller's worker, as `Exec`. Who may register one is
//! not decided here.

mod config;
mod definition;
mod json;
mod list;
mod schema;
mod tables;
mod template;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use prost::Message as _;

use crate::agents::{AtCaller, Setup};
use crate::call::Context;
use crate::contract::Agent;
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::commands::v1::{
    CallFunctionRequest, CallFunctionResponse, CommandsServiceInDaemon,
    CommandsServiceInDaemonAgent, ExecRequest, ExecResponse, ListFunctionsRequest,
    ListFunctionsResponse, RegisterFunctionRequest, RegisterFunctionResponse,
    RemoveFunctionRequest, RemoveFunctionResponse,
};
use crate::storage::{NoChore, Store, time};

pub use config::Config;

use definition::Definition;

/// The functions, and the way to the workers of their callers.
struct Functions {
    config: Config,
    store: Store,
    /// What is in the store, ready to be called.
    known: Arc<Known>,
    callers: Arc<dyn AtCaller>,
}

/// Functions by name. It changes after each commit, in the order of the commits.
#[derive(Default)]
struct Known(RwLock<BTreeMap<String, Arc<Definition>>>);

/// Builds the part of the agent that runs in the daemon.
///
/// # Errors
/// The store's, if its file cannot be opened.
pub fn build(setup: &Setup, callers: Arc<dyn AtCaller>) -> Result<Arc<dyn Agent>, Error> {
    let store = Store::open(&setup.storage, &tables::SCHEMA, &setup.status, NoChore)?;
    let known = Known::default();
    for (name, definition) in store.read(tables::all)? {
        match definition.and_then(Definition::check) {
            Ok(definition) => known.set(&name, Some(definition)),
            Err(error) => {
                tracing::warn!(function = name, %error, "a registered function cannot be used");
                setup.status.warn(format!(
                    "commands: the function {name} cannot be used and must be registered again: {error}"
                ));
            }
        }
    }
    let config = setup.settings.functions.clone();
    let functions = Functions { config, store, known: Arc::new(known), callers };
    Ok(Arc::new(CommandsServiceInDaemonAgent(Arc::new(functions))))
}

impl Known {
    fn get(&self, name: &str) -> Result<Arc<Definition>, Error> {
        let found = self.read(|known| known.get(name).cloned());
        found.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no function {name:?}"))
        })
    }

    fn set(&self, name: &str, definition: Option<Definition>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match definition {
            Some(definition) => known.insert(name.to_owned(), Arc::new(definition)),
            None => known.remove(name),
        };
    }

    fn read<T>(&self, look: impl FnOnce(&BTreeMap<String, Arc<Definition>>) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl CommandsServiceInDaemon for Functions {
    async fn register_function(
        &self,
        context: &Context,
        request: RegisterFunctionRequest,
    ) -> Result<RegisterFunctionResponse, Error> {
        let mut function =
            request.function.ok_or_else(|| Error::invalid("function", "is missing"))?;
        function.registered_by = context.caller.uid().ok_or_else(|| {
            let text = "nobody vouches for the caller, who would be named as the registrar";
            Error::new(ErrorKind::Unauthenticated, text)
        })?;
        function.registered_at = Some(time::timestamp(time::now()));
        let bytes = function.encoded_len();
        if bytes > self.config.max_function_bytes {
            let text = format!("function: has {bytes} bytes");
            let most = self.config.max_function_bytes;
            return Err(Error::limit("commands.max_function_bytes", most, text));
        }
        let definition = Definition::check(function.clone())?;
        let (name, row) = (function.name.clone(), function.encode_to_vec());
        let (known, max, replace) =
            (Arc::clone(&self.known), self.config.max_functions, request.replace);
        let stored = name.clone();
        self.store
            .write(
                move |database| tables::put(database, &stored, &row, replace, max),
                move |()| known.set(&name, Some(definition)),
            )
            .await?;
        Ok(RegisterFunctionResponse { function: Some(function) })
    }

    async fn remove_function(
        &self,
        _context: &Context,
        request: RemoveFunctionRequest,
    ) -> Result<RemoveFunctionResponse, Error> {
        definition::check_name("name", &request.name)?;
        let (known, name, stored) = (Arc::clone(&self.known), request.name.clone(), request.name);
        let removed = self
            .store
            .write(
                move |database| tables::remove(database, &stored),
                move |_| known.set(&name, None),
            )
            .await?;
        Ok(RemoveFunctionResponse { removed })
    }

    async fn list_functions(
        &self,
        _context: &Context,
        request: ListFunctionsRequest,
    ) -> Result<ListFunctionsResponse, Error> {
        std::future::ready(self.known.read(|known| list::page(known, &request))).await
    }

    async fn call_function(
        &self,
        context: &Context,
        request: CallFunctionRequest,
    ) -> Result<CallFunctionResponse, Error> {
        let definition = self.known.get(&request.name)?;
        let exec = ExecRequest {
            r#yield: request.r#yield,
            tag: request.tag,
            ..definition.expand(request.arguments.unwrap_or_default())?
        };
        let answer = self.callers.call("Exec", context, exec.encode_to_vec().into()).await?;
        let ExecResponse { command, stdout, stderr, running } = ExecResponse::decode(answer)
            .map_err(|error| {
                Error::internal(format!("the worker's answer cannot be read: {error}"))
            })?;
        Ok(CallFunctionResponse { command, stdout, stderr, running })
    }
}
