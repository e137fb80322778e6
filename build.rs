//! Compiles the contract: messages, one typed client for each service, for the daemon one trait and one
//! adapter for each, and the descriptor set with comments and options. It reads `proto/` (and, with feature `testing`, the
//! tests' protos) and nothing else: no protoc, no git, no clock.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost_build::{Config, Method, Service, ServiceGenerator};
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::method_options::IdempotencyLevel;
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, MethodDescriptor, ServiceDescriptor, Value,
};

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut roots = vec![PathBuf::from("proto")];
    if env::var_os("CARGO_FEATURE_TESTING").is_some() {
        roots.push(PathBuf::from("tests/data/proto"));
    }
    let mut files = Vec::new();
    for root in &roots {
        println!("cargo::rerun-if-changed={}", root.display());
        collect_protos(root, root, &mut files)?;
    }
    files.sort();

    let mut compiler = protox::Compiler::new(&roots)?;
    compiler.include_source_info(true).include_imports(true).open_files(&files)?;
    let pool = compiler.descriptor_pool();
    // As bytes, because prost_types drops the custom options and with them half of the contract.
    let contract = documentation_only(&pool, &compiler.encode_file_descriptor_set())?;
    fs::write(out.join("contract.bin"), contract)?;

    let agent = pool
        .get_extension_by_name("opdbus.v1.agent")
        .ok_or("proto/opdbus/v1/options.proto does not define opdbus.v1.agent")?;
    let operation = pool
        .get_extension_by_name("opdbus.v1.operation")
        .ok_or("proto/opdbus/v1/options.proto does not define opdbus.v1.operation")?;
    fs::write(out.join("clients.rs"), reexports(&pool, &agent))?;
    let is_daemon = env::var_os("CARGO_FEATURE_DAEMON").is_some();
    Config::new()
        .bytes(["."])
        .btree_map(["."])
        .service_generator(Box::new(AgentGenerator { pool, agent, operation, is_daemon }))
        .include_file("contract.rs")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// Drops from an encoded `FileDescriptorSet` where in its file each element stands, but for the
/// comments. They are all that the daemon reads of it, and the rest is most of the set.
fn documentation_only(pool: &DescriptorPool, set: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let descriptor = pool
        .get_message_by_name("google.protobuf.FileDescriptorSet")
        .ok_or("descriptor.proto is not part of the contract")?;
    let mut set = DynamicMessage::decode(descriptor, set)?;
    for file in set.get_field_by_name_mut("file").and_then(Value::as_list_mut).into_iter().flatten()
    {
        let locations = file
            .as_message_mut()
            .and_then(|file| file.get_field_by_name_mut("source_code_info"))
            .and_then(Value::as_message_mut)
            .and_then(|info| info.get_field_by_name_mut("location"))
            .and_then(Value::as_list_mut)
            .ok_or("a file without source information")?;
        locations.retain(|location| {
            location
                .as_message()
                .is_some_and(|location| location.has_field_by_name("leading_comments"))
        });
        for location in locations.iter_mut().filter_map(Value::as_message_mut) {
            location.clear_field_by_name("span");
        }
    }
    Ok(set.encode_to_vec())
}

/// Lists the `.proto` files below `folder`, relative to `root`.
fn collect_protos(
    root: &Path,
    folder: &Path,
    files: &mut Vec<PathBuf>,
) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect_protos(root, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path.strip_prefix(root)?.to_path_buf());
        }
    }
    Ok(())
}

/// Writes, for each service that bears the `agent` option, the typed client, and for the daemon the trait
/// to implement and the adapter that serves it over encoded messages.
struct AgentGenerator {
    pool: DescriptorPool,
    agent: ExtensionDescriptor,
    operation: ExtensionDescriptor,
    is_daemon: bool,
}

/// The operations of a service that are implemented together: those that run in workers and those that
/// run in the daemon are apart.
struct Part<'a> {
    service: &'a Service,
    full_name: String,
    /// The trait's name.
    name: String,
    /// With their positions in the service.
    methods: Vec<(usize, &'a Method)>,
}

impl ServiceGenerator for AgentGenerator {
    fn generate(&mut self, service: Service, code: &mut String) {
        let full_name = format!("{}.{}", service.package, service.proto_name);
        let Some(descriptor) = self.pool.get_service_by_name(&full_name) else { return };
        if !descriptor.options().has_extension(&self.agent) {
            return;
        }
        write_client(&service, &descriptor, &self.id(&descriptor), code);
        if !self.is_daemon {
            return;
        }
        let in_daemon: Vec<bool> =
            descriptor.methods().map(|method| self.is_in_daemon(&method.options())).collect();
        let methods = |here| {
            let methods = service.methods.iter().enumerate();
            methods.filter(|(index, _)| in_daemon[*index] == here).collect::<Vec<_>>()
        };
        let part = |name: String, methods| Part {
            service: &service,
            full_name: full_name.clone(),
            name,
            methods,
        };
        let mut parts = vec![part(service.name.clone(), methods(false))];
        if in_daemon.contains(&true) {
            parts.push(part(format!("{}InDaemon", service.name), methods(true)));
        }
        for part in parts {
            write_trait(&part, code);
            write_adapter(&part, code);
        }
    }
}

impl AgentGenerator {
    fn id(&self, service: &ServiceDescriptor) -> String {
        let options = service.options();
        let agent = options.get_extension(&self.agent);
        let id = agent.as_message().and_then(|agent| agent.get_field_by_name("id"));
        id.and_then(|id| id.as_str().map(str::to_owned)).unwrap_or_default()
    }

    fn is_in_daemon(&self, options: &DynamicMessage) -> bool {
        let operation = options.get_extension(&self.operation);
        let in_daemon = operation
            .as_message()
            .and_then(|operation| operation.get_field_by_name("in_daemon")?.as_bool());
        in_daemon.unwrap_or_default()
    }
}

/// The name of the typed client of a service: `MemoryClient` for `MemoryService`.
fn client_name(service: &str) -> String {
    format!("{}Client", service.strip_suffix("Service").unwrap_or(service))
}

/// What brings op-dbus's own clients to where programs look for them. Those of foreign contracts stay with
/// these.
fn reexports(pool: &DescriptorPool, agent: &ExtensionDescriptor) -> String {
    let mut code = String::new();
    for service in pool.services() {
        let package = service.parent_file().package_name().to_owned();
        if package.starts_with("opdbus.") && service.options().has_extension(agent) {
            let path = package.replace('.', "::");
            let client = client_name(service.name());
            line(&mut code, 0, &format!("pub use crate::proto::{path}::{client};"));
        }
    }
    code
}

fn write_client(service: &Service, descriptor: &ServiceDescriptor, id: &str, code: &mut String) {
    let name = client_name(&service.name);
    service.comments.append_with_indent(0, code);
    line(code, 0, "#[derive(Clone, Debug)]");
    line(code, 0, &format!("pub struct {name}(crate::client::AgentClient);"));
    line(code, 0, &format!("impl {name} {{"));
    line(code, 1, "/// A client whose calls go over `client`.");
    line(code, 1, "#[must_use]");
    line(code, 1, "pub fn new(client: crate::client::AgentClient) -> Self { Self(client) }");
    line(code, 1, "/// What calls go over.");
    line(code, 1, "#[must_use]");
    line(code, 1, "pub fn client(&self) -> &crate::client::AgentClient { &self.0 }");
    for (method, descriptor) in service.methods.iter().zip(descriptor.methods()) {
        write_client_method(method, &descriptor, id, code);
    }
    line(code, 0, "}");
}

fn write_client_method(
    method: &Method,
    descriptor: &MethodDescriptor,
    id: &str,
    code: &mut String,
) {
    let (input, output) = (&method.input_type, &method.output_type);
    let (call, output) = match (method.client_streaming, method.server_streaming) {
        (false, false) => ("unary", output.clone()),
        (false, true) => ("server_stream", format!("crate::client::Responses<{output}>")),
        (true, false) => ("client_stream", output.clone()),
        (true, true) => ("exchange", format!("crate::client::Responses<{output}>")),
    };
    let request = match method.client_streaming {
        false => format!("impl ::core::convert::Into<crate::client::Request<{input}>>"),
        true => format!(
            "crate::client::Request<impl ::futures_util::Stream<Item = {input}> + Send + 'static>"
        ),
    };
    let into = if method.client_streaming { "" } else { ".into()" };
    method.comments.append_with_indent(1, code);
    line(code, 1, "///");
    line(code, 1, "/// # Errors");
    line(code, 1, "/// As [`AgentClient::call`](crate::client::AgentClient::call).");
    line(code, 1, "///");
    line(code, 1, "/// # Cancel safety");
    line(code, 1, "/// The call is given up.");
    line(
        code,
        1,
        &format!(
            "pub async fn {}(&self, request: {request}) -> ::core::result::Result<{output}, crate::client::Error> {{",
            method.name
        ),
    );
    write_rpc(descriptor, id, code);
    line(code, 2, &format!("self.0.{call}(&RPC, request{into}).await"));
    line(code, 1, "}");
}

/// Writes what a client knows of an operation.
fn write_rpc(method: &MethodDescriptor, id: &str, code: &mut String) {
    let options = method.method_descriptor_proto().options.as_ref();
    let idempotency = match options.map(|options| options.idempotency_level()) {
        Some(IdempotencyLevel::NoSideEffects) => "NoSideEffects",
        Some(IdempotencyLevel::Idempotent) => "Idempotent",
        Some(IdempotencyLevel::IdempotencyUnknown) | None => "Unknown",
    };
    let service = method.parent_service().full_name().to_owned();
    let text = |text: &str| format!("::std::borrow::Cow::Borrowed({text:?})");
    line(code, 2, "static RPC: crate::client::Rpc = crate::client::Rpc {");
    for (field, value) in [
        ("agent", text(id)),
        ("operation", text(method.name())),
        ("service", text(&service)),
        ("path", text(&format!("/{service}/{}", method.name()))),
        ("idempotency", format!("crate::contract::Idempotency::{idempotency}")),
        ("client_streaming", method.is_client_streaming().to_string()),
        ("server_streaming", method.is_server_streaming().to_string()),
    ] {
        line(code, 3, &format!("{field}: {value},"));
    }
    line(code, 2, "};");
}

fn write_trait(part: &Part<'_>, code: &mut String) {
    part.service.comments.append_with_indent(0, code);
    line(code, 0, &format!("pub trait {}: Send + Sync + 'static {{", part.name));
    for (_, method) in &part.methods {
        method.comments.append_with_indent(1, code);
        let request = if method.client_streaming {
            format!("requests: crate::contract::Requests<{}>", method.input_type)
        } else {
            format!("request: {}", method.input_type)
        };
        let (replies, output) = if method.server_streaming {
            (format!(", replies: crate::contract::Replies<{}>", method.output_type), "()")
        } else {
            (String::new(), method.output_type.as_str())
        };
        line(code, 1, &format!("fn {}(", method.name));
        line(code, 2, &format!("&self, context: &crate::call::Context, {request}{replies},"));
        line(
            code,
            1,
            &format!(
                ") -> impl ::core::future::Future<Output = ::core::result::Result<{output}, crate::error::Error>> + Send;"
            ),
        );
    }
    line(
        code,
        1,
        "/// Drops what is kept for a session that has ended; by default there is nothing.",
    );
    line(code, 1, "fn session_ended(&self, session: &crate::call::SessionScope)");
    line(
        code,
        2,
        "-> impl ::core::future::Future<Output = ::core::result::Result<(), crate::error::Error>> + Send {",
    );
    line(code, 2, "let _ = session; ::core::future::ready(Ok(()))");
    line(code, 1, "}");
    line(code, 1, "/// How much goes on between calls; by default there is nothing.");
    line(code, 1, "fn going_on(&self) -> usize { 0 }");
    line(code, 0, "}");
}

fn write_adapter(part: &Part<'_>, code: &mut String) {
    let Part { name, full_name, methods, .. } = part;
    line(code, 0, &format!("/// Serves a [`{name}`] over encoded messages."));
    line(code, 0, &format!("pub struct {name}Agent<T>(pub ::std::sync::Arc<T>);"));
    line(code, 0, &format!("impl<T: {name}> crate::contract::Agent for {name}Agent<T> {{"));
    line(code, 1, &format!("fn service(&self) -> &'static str {{ {full_name:?} }}"));

    line(
        code,
        1,
        "fn call<'a>(&'a self, operation: usize, context: &'a crate::call::Context, request: ::bytes::Bytes)",
    );
    line(code, 2, "-> crate::contract::Running<'a, ::bytes::Bytes> {");
    line(code, 2, "match operation {");
    for (index, method) in methods {
        if !method.client_streaming && !method.server_streaming {
            line(
                code,
                3,
                &format!(
                    "{index} => ::std::boxed::Box::pin(async move {{ crate::contract::encode(&self.0.{}(context, crate::contract::decode(request)?).await?) }}),",
                    method.name
                ),
            );
        }
    }
    line(code, 3, "_ => crate::contract::wrong_shape(self.service(), operation),");
    line(code, 2, "}");
    line(code, 1, "}");

    line(code, 1, "fn stream<'a>(&'a self, operation: usize, context: &'a crate::call::Context,");
    line(code, 2, "requests: crate::contract::RawRequests, replies: crate::contract::RawReplies)");
    line(code, 2, "-> crate::contract::Running<'a, ()> {");
    line(code, 2, "match operation {");
    for (index, method) in methods {
        if method.client_streaming || method.server_streaming {
            line(
                code,
                3,
                &format!(
                    "{index} => ::std::boxed::Box::pin(async move {{ {} }}),",
                    stream_body(method)
                ),
            );
        }
    }
    line(
        code,
        3,
        "_ => { drop((context, requests, replies)); crate::contract::wrong_shape(self.service(), operation) }",
    );
    line(code, 2, "}");
    line(code, 1, "}");

    line(code, 1, "fn session_ended<'a>(&'a self, session: &'a crate::call::SessionScope)");
    line(code, 2, "-> crate::contract::Running<'a, ()> {");
    line(code, 2, "::std::boxed::Box::pin(self.0.session_ended(session))");
    line(code, 1, "}");
    line(code, 1, "fn going_on(&self) -> usize { self.0.going_on() }");
    line(code, 0, "}");
}

/// The adapter's body for one streaming rpc.
fn stream_body(method: &Method) -> String {
    let name = &method.name;
    match (method.client_streaming, method.server_streaming) {
        (true, true) => {
            format!("self.0.{name}(context, requests.decoded(), replies.encoding()).await")
        }
        (true, false) => format!(
            "let response = self.0.{name}(context, requests.decoded()).await?; replies.encoding().send(response).await"
        ),
        _ => format!(
            "let request = requests.only().await?; self.0.{name}(context, request, replies.encoding()).await"
        ),
    }
}

/// Appends one line of code. Writing to a `String` cannot fail.
fn line(code: &mut String, indent: usize, text: &str) {
    writeln!(code, "{:indent$}{text}", "", indent = indent * 4).expect("a String takes any text");
}
