//! The object of an older agent: what can be called on it, and what it says of itself. Tasks are run
//! elsewhere.

use std::sync::Arc;

use serde_json::{Value, json};
use zbus::message::{Body, Header, Message};

use super::super::error::Failure;
use super::super::standard::arguments;
use super::super::{encode, text};
use super::{INTERFACE, LegacyName};
use crate::compat::dbusmcp::OlderAgent;
use crate::contract::Service;
use crate::executor::Executor;
use crate::proto::opdbus::v1::Risk;
use crate::registry::Condition;

/// An older agent that is served.
pub(in crate::transport::dbus) struct Older {
    name: LegacyName,
    service: Arc<Service>,
    /// The interface of the first generation, which has the agent's name.
    first_interface: String,
}

/// A method of an older agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transport::dbus) enum OlderMethod {
    Execute,
    RunOperation,
    AgentType,
    AgentId,
    Name,
    Description,
    Operations,
    SupportsOperation,
    Status,
    SecurityProfile,
    Metadata,
    Ping,
    /// `Execute` of the first generation.
    FirstExecute,
    GetStatus,
}

const METHODS: [(&str, OlderMethod); 12] = [
    ("Execute", OlderMethod::Execute),
    ("RunOperation", OlderMethod::RunOperation),
    ("AgentType", OlderMethod::AgentType),
    ("AgentId", OlderMethod::AgentId),
    ("Name", OlderMethod::Name),
    ("Description", OlderMethod::Description),
    ("Operations", OlderMethod::Operations),
    ("SupportsOperation", OlderMethod::SupportsOperation),
    ("Status", OlderMethod::Status),
    ("SecurityProfile", OlderMethod::SecurityProfile),
    ("Metadata", OlderMethod::Metadata),
    ("Ping", OlderMethod::Ping),
];

const FIRST_METHODS: [(&str, OlderMethod); 2] =
    [("Execute", OlderMethod::FirstExecute), ("GetStatus", OlderMethod::GetStatus)];

impl OlderMethod {
    /// True if it runs a task; the others tell something at once.
    pub(in crate::transport::dbus) const fn runs(self) -> bool {
        matches!(self, Self::Execute | Self::RunOperation | Self::FirstExecute)
    }
}

impl Older {
    pub(in crate::transport::dbus) fn new(name: LegacyName, service: Arc<Service>) -> Self {
        let first_interface = format!("{INTERFACE}.{}", name.agent.name);
        Self { name, service, first_interface }
    }

    pub(super) fn agent(&self) -> &'static OlderAgent {
        self.name.agent
    }

    /// What the agent does.
    pub(in crate::transport::dbus) fn service(&self) -> &Service {
        &self.service
    }

    /// The interface that a method belongs to.
    pub(super) fn interface_of(&self, method: OlderMethod) -> &str {
        match method {
            OlderMethod::FirstExecute | OlderMethod::GetStatus => &self.first_interface,
            OlderMethod::Execute
            | OlderMethod::RunOperation
            | OlderMethod::AgentType
            | OlderMethod::AgentId
            | OlderMethod::Name
            | OlderMethod::Description
            | OlderMethod::Operations
            | OlderMethod::SupportsOperation
            | OlderMethod::Status
            | OlderMethod::SecurityProfile
            | OlderMethod::Metadata
            | OlderMethod::Ping => INTERFACE,
        }
    }

    pub(in crate::transport::dbus) fn path(&self) -> String {
        self.name.path()
    }

    /// The id of op-dbus's agent.
    pub(in crate::transport::dbus) fn agent_id(&self) -> &str {
        &self.service.id
    }

    /// Its interfaces, standard ones left aside.
    pub(in crate::transport::dbus) fn interfaces(&self) -> [&str; 2] {
        [INTERFACE, &self.first_interface]
    }

    pub(in crate::transport::dbus) fn first_interface(&self) -> &str {
        &self.first_interface
    }

    /// The method called `member`, of `interface` where one is named.
    pub(in crate::transport::dbus) fn method(
        &self,
        interface: Option<&str>,
        member: &str,
    ) -> Option<OlderMethod> {
        let is_meant = |name: &str| interface.is_none_or(|interface| interface == name);
        let own = METHODS.iter().filter(|_| is_meant(INTERFACE));
        let first = FIRST_METHODS.iter().filter(|_| is_meant(&self.first_interface));
        own.chain(first).find(|(name, _)| *name == member).map(|(_, method)| *method)
    }

    /// The names of the methods of `interface`; of all where none is named.
    pub(in crate::transport::dbus) fn members(&self, interface: Option<&str>) -> Vec<&'static str> {
        let all = METHODS.iter().chain(&FIRST_METHODS).map(|(name, _)| *name);
        let mut names: Vec<_> = all.filter(|name| self.method(interface, name).is_some()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Answers a method that runs no task.
    ///
    /// # Errors
    /// If the arguments are not those of the method.
    pub(in crate::transport::dbus) fn tell(
        &self,
        method: OlderMethod,
        call: &Header<'_>,
        body: &Body,
        executor: &Executor,
    ) -> Result<Message, Failure> {
        if method != OlderMethod::SupportsOperation {
            let () = arguments(body, "")?;
        }
        let reply = Message::method_return(call);
        let agent = self.agent();
        let text = match method {
            OlderMethod::SupportsOperation => {
                let (operation,): (&str,) = arguments(body, "s")?;
                return Ok(encode::built(reply.build(&agent.supports(operation)))?);
            }
            OlderMethod::Operations => return Ok(encode::built(reply.build(&agent.operations()))?),
            OlderMethod::Ping => return Ok(encode::built(reply.build(&true))?),
            OlderMethod::AgentType => agent.kind.to_owned(),
            OlderMethod::AgentId => self.id().to_owned(),
            OlderMethod::Name => self.service.title.clone(),
            OlderMethod::Description => self.service.summary.clone(),
            OlderMethod::Status | OlderMethod::GetStatus => {
                self.status(&executor.registry().condition(&self.service.id))
            }
            OlderMethod::SecurityProfile => {
                let mut profile = self.security(executor);
                profile["operations"] = self.risks();
                profile.to_string()
            }
            OlderMethod::Metadata => self.metadata(executor).to_string(),
            OlderMethod::Execute | OlderMethod::RunOperation | OlderMethod::FirstExecute => {
                return Err(crate::error::Error::internal("a task is not told but run").into());
            }
        };
        Ok(encode::built(reply.build(&text::shown(&text).as_ref()))?)
    }

    /// `StatusChanged`, for everybody.
    pub(in crate::transport::dbus) fn status_changed(
        &self,
        condition: &Condition,
    ) -> zbus::Result<Message> {
        let status = self.status(condition);
        let signal = Message::signal(self.path(), INTERFACE, "StatusChanged");
        signal.build(&text::shown(&status).as_ref())
    }

    fn id(&self) -> &str {
        self.name.suffix.as_deref().unwrap_or(self.agent().kind)
    }

    fn status(&self, condition: &Condition) -> String {
        let status = format!("{} is {}", self.service.title, condition.state.name());
        match condition.problem() {
            problem if problem.is_empty() => status,
            problem => format!("{status}: {problem}"),
        }
    }

    fn security(&self, executor: &Executor) -> Value {
        let time = executor.default_timeout();
        json!({
            "category": self.agent().category,
            "timeout_secs": u64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u64::MAX),
            "requires_root": false,
        })
    }

    /// How much may go wrong with each of the operations of the agent.
    fn risks(&self) -> Value {
        let operations = self.service.operations.iter();
        let risk = |risk: Risk| risk.as_str_name().trim_start_matches("RISK_").to_lowercase();
        operations.map(|operation| (operation.name.clone(), json!(risk(operation.risk)))).collect()
    }

    fn metadata(&self, executor: &Executor) -> Value {
        json!({
            "agent_type": self.agent().kind,
            "agent_id": self.id(),
            "name": self.service.title,
            "description": self.service.summary,
            "operations": self.agent().operations(),
            "status": self.status(&executor.registry().condition(&self.service.id)),
            "security": self.security(executor),
        })
    }
}

/// The interfaces of an older agent as introspection shows them: that of its generation, and the first.
pub(in crate::transport::dbus) fn interfaces(first_interface: &str) -> [(&str, &'static str); 2] {
    [(INTERFACE, include_str!("members.xml")), (first_interface, include_str!("first_members.xml"))]
}
