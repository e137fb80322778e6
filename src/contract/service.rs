//! Agents and operations as the descriptors describe them. Immutable once read.

use std::sync::{Arc, OnceLock};

use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, MessageDescriptor,
    MethodDescriptor, ServiceDescriptor,
};

use super::dbus::{self, MethodShape};
use super::docs::{Docs, summary};
use super::key;
use crate::error::{Error, ErrorKind};
use crate::proto::DESCRIPTOR_SET;
use crate::proto::opdbus::v1::{Activation, AgentOptions, OperationOptions, Risk};

/// A set of services that were compiled together.
#[derive(Clone, Debug)]
pub struct Contract {
    /// The services that bear the `agent` option, sorted by id.
    pub services: Vec<Arc<Service>>,
    /// The encoded `FileDescriptorSet`, as reflection hands it out.
    pub descriptor_set: bytes::Bytes,
}

/// One protobuf service that is served: an agent, or a part of op-dbus itself.
#[derive(Debug)]
pub struct Service {
    /// The agent's id, as `memory`.
    pub id: String,
    /// The name for people.
    pub title: String,
    /// The full name, as `opdbus.agent.memory.v1.MemoryService`.
    pub full_name: String,
    /// The documentation.
    pub docs: String,
    /// The first sentence of it.
    pub summary: String,
    /// When the agent starts.
    pub activation: Activation,
    /// Where it runs.
    pub host: crate::proto::opdbus::v1::Host,
    /// True for op-dbus's own services.
    pub manager: bool,
    /// True for a foreign contract, which is served by calling agents.
    pub gateway: bool,
    /// The object on the bus.
    pub object_path: String,
    /// The interface on the bus.
    pub interface: String,
    /// The operations, by position.
    pub operations: Vec<Arc<Operation>>,
}

/// What calling an operation a second time does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idempotency {
    /// It may have a second effect.
    Unknown,
    /// It has no effect at all.
    NoSideEffects,
    /// It has no further effect.
    Idempotent,
}

/// One operation of a service.
#[derive(Debug)]
pub struct Operation {
    /// The position in the service.
    pub index: usize,
    /// The name, as `Remember`.
    pub name: String,
    /// The id of its agent.
    pub agent: String,
    /// The path on gRPC, as `/opdbus.agent.memory.v1.MemoryService/Remember`.
    pub grpc_path: String,
    /// The documentation.
    pub docs: String,
    /// What it may do to the system. Never `Unspecified`.
    pub risk: Risk,
    /// What a second call does.
    pub idempotency: Idempotency,
    /// The sandbox profile of programs it starts; empty if none.
    pub sandbox: String,
    /// What must be installed.
    pub backends: Vec<String>,
    /// What a person might say to ask for it.
    pub examples: Vec<String>,
    /// The request's type.
    pub input: MessageDescriptor,
    /// The response's type.
    pub output: MessageDescriptor,
    /// True if requests are a stream.
    pub client_streaming: bool,
    /// True if responses are a stream.
    pub server_streaming: bool,
    /// True if it does little but wait: it takes no place and ends with its client.
    pub waits: bool,
    /// True if a slow reader misses messages rather than holding up the work.
    pub lossy: bool,
    /// True if it runs in the daemon although its agent runs in workers.
    pub in_daemon: bool,
    /// True if it is on D-Bus although it is a stream of op-dbus's own.
    pub on_bus: bool,
    /// True if calling it as a stream or on request makes a task that is kept: it belongs to an agent
    /// and is no mere view.
    pub is_agents: bool,
    /// The number of the request's field that names the one thing which it works on; `None`: it may
    /// work on everything that the agent has.
    pub key: Option<u32>,
    /// How it looks on D-Bus.
    pub shape: MethodShape,
}

impl Contract {
    /// The contract that op-dbus was built with. It is read once in a process: that takes milliseconds
    /// and megabytes.
    ///
    /// # Errors
    /// `InvalidArgument` if the compiled-in descriptors are damaged.
    pub fn built_in() -> Result<Self, Error> {
        static BUILT_IN: OnceLock<Result<Contract, Error>> = OnceLock::new();
        let decode = || Self::decode(bytes::Bytes::from_static(DESCRIPTOR_SET));
        BUILT_IN.get_or_init(decode).clone()
    }

    /// Reads an encoded `FileDescriptorSet`.
    ///
    /// # Errors
    /// `InvalidArgument` if the bytes are no complete descriptor set or its options make no sense.
    pub fn decode(descriptor_set: bytes::Bytes) -> Result<Self, Error> {
        let pool = DescriptorPool::decode(descriptor_set.clone())
            .map_err(|error| Error::invalid("descriptor set", error))?;
        let reader = Reader::new(&pool)?;
        let mut services = Vec::new();
        for descriptor in pool.services() {
            if let Some(service) = reader.service(&descriptor)? {
                services.push(Arc::new(service));
            }
        }
        services.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Self { services, descriptor_set })
    }

    /// The service with the full name `name`.
    ///
    /// # Errors
    /// `Internal` if there is none.
    pub fn service(&self, name: &str) -> Result<&Arc<Service>, Error> {
        self.services
            .iter()
            .find(|service| service.full_name == name)
            .ok_or_else(|| Error::internal(format!("the contract has no service {name}")))
    }
}

impl Operation {
    /// True if requests, responses or both are a stream.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        self.client_streaming || self.server_streaming
    }

    /// True if it is a method on D-Bus. Streams of op-dbus's own services are not, unless they say so: the
    /// bus has objects and signals for what they give.
    #[must_use]
    pub fn is_on_bus(&self) -> bool {
        self.is_agents || self.on_bus || !self.is_streaming()
    }
}

impl Service {
    /// The operation called `name`, as `BulkRecall` or `bulk_recall`.
    ///
    /// # Errors
    /// `UnknownOperation`, naming those that there are.
    pub fn operation(&self, name: &str) -> Result<&Arc<Operation>, Error> {
        self.operations.iter().find(|operation| same_name(&operation.name, name)).ok_or_else(|| {
            let names: Vec<&str> =
                self.operations.iter().map(|operation| operation.name.as_str()).collect();
            Error::new(
                ErrorKind::UnknownOperation,
                format!("agent {} has no operation {name}; it has {}", self.id, names.join(", ")),
            )
        })
    }
}

/// True if two names of operations are the same but for case and underscores.
#[must_use]
pub fn same_name(a: &str, b: &str) -> bool {
    let plain = |name: &str| -> Vec<u8> {
        name.bytes().filter(|byte| *byte != b'_').map(|byte| byte.to_ascii_lowercase()).collect()
    };
    plain(a) == plain(b)
}

/// The option extensions of one pool.
struct Reader {
    agent: ExtensionDescriptor,
    operation: ExtensionDescriptor,
}

impl Reader {
    fn new(pool: &DescriptorPool) -> Result<Self, Error> {
        let extension = |name: &str| {
            pool.get_extension_by_name(name).ok_or_else(|| {
                Error::invalid("descriptor set", format!("does not contain the option {name}"))
            })
        };
        Ok(Self {
            agent: extension("opdbus.v1.agent")?,
            operation: extension("opdbus.v1.operation")?,
        })
    }

    /// Reads a service; `None` if it does not bear the `agent` option.
    fn service(&self, descriptor: &ServiceDescriptor) -> Result<Option<Service>, Error> {
        let options = descriptor.options();
        if !options.has_extension(&self.agent) {
            return Ok(None);
        }
        let agent: AgentOptions = read_option(&options, &self.agent)?;
        if !is_id(&agent.id) {
            return Err(Error::invalid(
                descriptor.full_name(),
                format!(
                    "the id {:?} must be 1 to 64 lower case letters, digits and underscores, starting with a letter",
                    agent.id
                ),
            ));
        }
        let docs = Docs::of(&descriptor.parent_file());
        let operations = descriptor
            .methods()
            .enumerate()
            .map(|(index, method)| self.operation(index, &method, &agent, &docs).map(Arc::new))
            .collect::<Result<Vec<_>, Error>>()?;
        let text = docs.at(descriptor.path()).to_owned();
        Ok(Some(Service {
            title: if agent.title.is_empty() { agent.id.clone() } else { agent.title.clone() },
            full_name: descriptor.full_name().to_owned(),
            summary: summary(&text),
            docs: text,
            activation: agent.activation(),
            host: agent.host(),
            manager: agent.manager,
            gateway: agent.gateway,
            object_path: dbus::object_path(&agent.id, agent.manager),
            interface: dbus::interface_name(descriptor.full_name()),
            operations,
            id: agent.id,
        }))
    }

    fn operation(
        &self,
        index: usize,
        method: &MethodDescriptor,
        agent: &AgentOptions,
        docs: &Docs,
    ) -> Result<Operation, Error> {
        let options: OperationOptions = read_option(&method.options(), &self.operation)?;
        // A forgotten option never opens anything.
        let forgotten = options.risk() == Risk::Unspecified;
        let risk = if forgotten { Risk::Admin } else { options.risk() };
        let level =
            method.method_descriptor_proto().options.as_ref().map(|o| o.idempotency_level());
        let key = (!options.key.is_empty()).then(|| key::number(&method.input(), &options.key));
        Ok(Operation {
            index,
            name: method.name().to_owned(),
            agent: agent.id.clone(),
            grpc_path: format!("/{}/{}", method.parent_service().full_name(), method.name()),
            docs: docs.at(method.path()).to_owned(),
            risk,
            idempotency: match level {
                Some(prost_types::method_options::IdempotencyLevel::NoSideEffects) => {
                    Idempotency::NoSideEffects
                }
                Some(prost_types::method_options::IdempotencyLevel::Idempotent) => {
                    Idempotency::Idempotent
                }
                Some(prost_types::method_options::IdempotencyLevel::IdempotencyUnknown) | None => {
                    Idempotency::Unknown
                }
            },
            sandbox: options.sandbox,
            backends: options.backends,
            examples: options.examples,
            shape: MethodShape::of(method),
            input: method.input(),
            output: method.output(),
            client_streaming: method.is_client_streaming(),
            server_streaming: method.is_server_streaming(),
            waits: options.waits || agent.gateway,
            lossy: options.lossy,
            in_daemon: options.in_daemon,
            on_bus: options.on_bus,
            key: key.transpose()?,
            is_agents: !agent.manager && !agent.gateway,
        })
    }
}

/// Reads a message-typed option through its encoded form, so that the generated type serves.
fn read_option<T: prost::Message + Default>(
    options: &DynamicMessage,
    extension: &ExtensionDescriptor,
) -> Result<T, Error> {
    let value = options.get_extension(extension);
    let Some(message) = value.as_message() else {
        return Err(Error::invalid(extension.full_name(), "is not a message"));
    };
    message.transcode_to().map_err(|error| Error::invalid(extension.full_name(), error))
}

/// True if `id` can be an agent's id: it must be a D-Bus path element and a metric label.
fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id.starts_with(|c: char| c.is_ascii_lowercase())
        && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// True if the field bears `google.api.field_behavior = REQUIRED`.
pub(super) fn is_required(field: &FieldDescriptor) -> bool {
    const REQUIRED: i32 = 2;
    let pool = field.parent_pool();
    let Some(extension) = pool.get_extension_by_name("google.api.field_behavior") else {
        return false;
    };
    field
        .options()
        .get_extension(&extension)
        .as_list()
        .is_some_and(|list| list.iter().any(|value| value.as_enum_number() == Some(REQUIRED)))
}
