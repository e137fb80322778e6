//! Every key there is: its section, type and default, and the shape of a file that may hold some of
//! them. Whether a value makes sense is checked in `settings`.

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::locate;
use super::problem::Problems;
use super::tables;
use crate::agents::commands::Rule;
use crate::client::settings as client_settings;
use crate::files::Source;
use crate::transport::dbus::LegacyName;

/// One key's value, and where it was set.
#[derive(Clone, Debug)]
pub(super) struct Key<T> {
    pub(super) name: &'static str,
    pub(super) value: T,
    /// The index of the source and the offset in it; none for a default.
    pub(super) at: Option<(usize, usize)>,
}

impl<T> Key<T> {
    fn replace(&mut self, found: Option<Spanned<T>>, source: usize) {
        if let Some(found) = found {
            self.at = Some((source, found.span().start));
            self.value = found.into_inner();
        }
    }

    /// True if a file sets the key, be it to the default.
    pub(super) fn is_set(&self) -> bool {
        self.at.is_some()
    }
}

impl Key<RuleTable> {
    fn rule(found: Spanned<RuleTable>, source: usize) -> Self {
        let at = Some((source, found.span().start));
        Self { name: "policy", value: found.into_inner(), at }
    }
}

/// One `[[policy]]` table.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RuleTable {
    pub(super) users: Option<Vec<String>>,
    pub(super) groups: Option<Vec<String>>,
    pub(super) tokens: Option<Vec<String>>,
    pub(super) certificates: Option<Vec<String>>,
    pub(super) login_sessions: Option<Vec<String>>,
    pub(super) agents: Option<Vec<String>>,
    pub(super) operations: Option<Vec<String>>,
    pub(super) risk: Option<Vec<String>>,
    pub(super) risk_at_least: Option<String>,
    pub(super) decision: Option<String>,
    pub(super) may_approve: Option<String>,
    pub(super) reason: Option<String>,
}

/// The keys of [`RuleTable`].
pub(super) const RULE_KEYS: &[&str] = &[
    "users",
    "groups",
    "tokens",
    "certificates",
    "login_sessions",
    "agents",
    "operations",
    "risk",
    "risk_at_least",
    "decision",
    "may_approve",
    "reason",
];

/// One key for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key, as `grpc.unix_mode`.
    pub name: &'static str,
    /// Its value as TOML.
    pub value: String,
    /// The file and line that set it; none for a default.
    pub origin: Option<String>,
}

/// Declares the sections: for each a module with `Shape` (what a file may hold, all of it optional)
/// and `Section` (what holds, with where it comes from), and both for the whole file.
macro_rules! sections {
    ($($section:ident { $($key:ident: $type:ty = $default:expr,)* })*) => {
        $(pub(super) mod $section {
            use super::*;

            /// What a file may say.
            #[derive(Default, Deserialize)]
            #[serde(default, deny_unknown_fields)]
            pub(super) struct Shape {
                $(pub(super) $key: Option<Spanned<$type>>,)*
            }

            /// What holds.
            pub(in crate::config) struct Section {
                $(pub(in crate::config) $key: Key<$type>,)*
            }

            impl Default for Section {
                fn default() -> Self {
                    Self {
                        $($key: Key {
                            name: concat!(stringify!($section), ".", stringify!($key)),
                            value: $default,
                            at: None,
                        },)*
                    }
                }
            }
        })*

        /// A whole file.
        #[derive(Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct Shape {
            $($section: $section::Shape,)*
            policy: Option<Vec<Spanned<RuleTable>>>,
        }

        /// All keys.
        #[derive(Default)]
        pub(super) struct Keys {
            $(pub(super) $section: $section::Section,)*
            pub(super) policy: Vec<Key<RuleTable>>,
        }

        impl Keys {
            fn replace(&mut self, shape: Shape, source: usize) {
                $($(self.$section.$key.replace(shape.$section.$key, source);)*)*
                if let Some(rules) = shape.policy {
                    self.policy = rules.into_iter().map(|rule| Key::rule(rule, source)).collect();
                }
            }

            /// Every key, in the order of the declaration.
            pub(super) fn entries(&self, sources: &[Source]) -> Vec<Entry> {
                // First, since it stands in no section.
                vec![rules(&self.policy, sources), $($(entry(&self.$section.$key, sources),)*)*]
            }
        }

        /// The sections and their keys.
        pub(super) const SECTIONS: &[(&str, &[&str])] =
            &[$((stringify!($section), &[$(stringify!($key)),*]),)*];
    };
}

sections! {
    dbus {
        enabled: bool = true,
        bus: String = "system".to_owned(),
        name: String = client_settings::DEFAULT_NAME.to_owned(),
        max_body_bytes: i64 = 1_048_576,
        legacy: bool = true,
        legacy_names: Vec<String> = LegacyName::all().map(|name| name.to_string()).collect(),
    }
    grpc {
        enabled: bool = true,
        unix: String = client_settings::DEFAULT_SOCKET.to_owned(),
        unix_mode: String = "0660".to_owned(),
        unix_group: String = String::new(),
        tcp: String = String::new(),
        token: Vec<tables::Token> = Vec::new(),
        token_file: String = String::new(),
        max_request_bytes: i64 = 4_194_304,
        max_response_bytes: i64 = 4_194_304,
        max_connections: i64 = 16_384,
        max_connections_per_uid: i64 = 12_288,
    }
    tls {
        listen: String = String::new(),
        certificate: String = String::new(),
        key: String = String::new(),
        client_ca: String = String::new(),
        client_crls: Vec<String> = Vec::new(),
        client_certificates: String = "required".to_owned(),
        client: Vec<tables::Certificate> = Vec::new(),
        min_version: String = "1.3".to_owned(),
        handshake_timeout_ms: i64 = 10_000,
        max_handshakes: i64 = 256,
    }
    executor {
        max_in_flight: i64 = 256,
        max_in_flight_per_agent: i64 = 128,
        queue: i64 = 1024,
        default_timeout_ms: i64 = 30_000,
        max_timeout_ms: i64 = 600_000,
        request_id_ttl_ms: i64 = 600_000,
        request_id_max: i64 = 65_536,
    }
    approvals {
        max: i64 = 1024,
        max_per_caller: i64 = 32,
        expire_ms: i64 = 600_000,
    }
    polkit {
        enabled: bool = true,
        bus: String = "system".to_owned(),
        timeout_ms: i64 = 5000,
        max_questions: i64 = 64,
        max_questions_per_caller: i64 = 4,
    }
    limits {
        read_per_second: i64 = 100_000,
        write_per_second: i64 = 50_000,
        execute_per_second: i64 = 1000,
        deploy_per_second: i64 = 50,
        admin_per_second: i64 = 50,
        max_in_flight: i64 = 96,
        queue: i64 = 512,
        max_waits: i64 = 8192,
        max_batches: i64 = 64,
        max_streams: i64 = 16_384,
        request_bytes: i64 = 67_108_864,
        unread_bytes: i64 = 67_108_864,
        request_ids: i64 = 16_384,
        request_id_bytes: i64 = 33_554_432,
        stretch_us: i64 = 200,
    }
    batch {
        max_items: i64 = 1000,
        max_parallel: i64 = 16,
        max_result_bytes: i64 = 3_145_728,
        max_running: i64 = 256,
    }
    tasks {
        max_running: i64 = 8192,
        max_running_per_caller: i64 = 2048,
        max_runtime_ms: i64 = 3_600_000,
        ring_messages: i64 = 1024,
        ring_bytes: i64 = 1_048_576,
        memory_bytes: i64 = 268_435_456,
        memory_bytes_per_caller: i64 = 67_108_864,
        keep_ms: i64 = 3_600_000,
        keep_max: i64 = 4096,
    }
    sessions {
        max: i64 = 16_384,
        max_per_caller: i64 = 4096,
        idle_ms: i64 = 1_800_000,
        grace_ms: i64 = 60_000,
    }
    storage {
        path: String = "/var/lib/op-dbus".to_owned(),
        durability: String = "full".to_owned(),
    }
    audit {
        enabled: bool = true,
        file_bytes: i64 = 16_777_216,
        files: i64 = 16,
        on_failure: String = "refuse".to_owned(),
        durability: String = "written".to_owned(),
        queue: i64 = 4096,
        journal: bool = true,
    }
    memory {
        max_keys: i64 = 100_000,
        max_bytes: i64 = 67_108_864,
        max_versions: i64 = 32,
        history_days: i64 = 30,
        max_history_bytes: i64 = 134_217_728,
        max_forget: i64 = 10_000,
        max_atomic: i64 = 10_000,
        max_atomic_bytes: i64 = 16_777_216,
        max_watchers: i64 = 4096,
    }
    context_manager {
        max_contexts: i64 = 10_000,
        max_items: i64 = 10_000,
        max_context_bytes: i64 = 33_554_432,
        max_versions: i64 = 100,
        max_bytes: i64 = 536_870_912,
        deleted_age_days: i64 = 30,
        max_import_bytes: i64 = 16_777_216,
    }
    sequential_thinking {
        max_chains: i64 = 10_000,
        max_age_days: i64 = 90,
        max_import_bytes: i64 = 8_388_608,
    }
    worker {
        enabled: bool = true,
        starter: String = "auto".to_owned(),
        exec_socket: String = "/run/op-dbus/exec.sock".to_owned(),
        min_uid: i64 = 1000,
        max: i64 = 64,
        idle_ms: i64 = 600_000,
        start_timeout_ms: i64 = 5000,
        check_ms: i64 = 5000,
        check_timeout_ms: i64 = 5000,
        max_response_bytes: i64 = 4_194_304,
        memory_bytes: i64 = 4_294_967_296,
        tasks: i64 = 1024,
        cpu_weight: i64 = 100,
        cpu_percent: i64 = 0,
        files: i64 = 4096,
    }
    commands {
        max_running: i64 = 64,
        max_kept: i64 = 128,
        keep_ms: i64 = 600_000,
        ring_bytes: i64 = 262_144,
        keep_bytes_max: i64 = 131_072,
        artifact_bytes: i64 = 67_108_864,
        artifact_total_bytes: i64 = 536_870_912,
        max_shells: i64 = 8,
        shell_idle_ms: i64 = 1_800_000,
        max_functions: i64 = 256,
        max_function_bytes: i64 = 65_536,
        profiles: Vec<String> =
            ["read", "build", "test", "exec", "network"].map(str::to_owned).into(),
        confinement: String = "prefer".to_owned(),
        wall_ms: i64 = 600_000,
        max_wall_ms: i64 = 86_400_000,
        cpu_ms: i64 = 0,
        max_cpu_ms: i64 = 0,
        memory_bytes: i64 = 2_147_483_648,
        max_memory_bytes: i64 = 0,
        processes: i64 = 512,
        max_processes: i64 = 0,
        output_bytes: i64 = 0,
        max_output_bytes: i64 = 0,
        file_size_bytes: i64 = 0,
        max_file_size_bytes: i64 = 0,
        grace_ms: i64 = 2000,
        max_grace_ms: i64 = 30_000,
        rule: Vec<Rule> = Vec::new(),
    }
    migration {
        stage: String = "dbus".to_owned(),
        percent: f64 = 0.0,
        steps: Vec<f64> = vec![5.0, 25.0, 50.0],
        error_margin: f64 = 0.01,
        latency_margin: f64 = 1.5,
        min_calls: i64 = 200,
        rule: Vec<tables::MigrationRule> = Vec::new(),
        ledger_flush_ms: i64 = 5000,
        ledger_keep_ms: i64 = 7_776_000_000,
        ledger_clients: i64 = 16_384,
        ledger_clients_per_uid: i64 = 1024,
        ledger_unwritten: i64 = 32_768,
    }
    metrics {
        unix: String = "/run/op-dbus/metrics.sock".to_owned(),
        tcp: String = String::new(),
    }
    log {
        level: String = "info".to_owned(),
        target: String = "auto".to_owned(),
    }
    daemon {
        drain_grace_ms: i64 = 10_000,
    }
    client {
        address: String = format!("unix:{}", client_settings::DEFAULT_SOCKET),
        connect_timeout_ms: i64 = client_settings::CONNECT_TIMEOUT_MS.default.into(),
        request_timeout_ms: i64 = client_settings::REQUEST_TIMEOUT_MS.default.into(),
        max_retries: i64 = client_settings::MAX_RETRIES.default.into(),
        pool_connections: bool = true,
    }
    agents {
        run_on_connection: Vec<String> = Vec::new(),
        on_demand: Vec<String> = Vec::new(),
        idle_stop_ms: i64 = 600_000,
    }
}

impl Keys {
    /// The defaults, replaced by what the files say, one after the other.
    pub(super) fn merged(sources: &[Source]) -> Result<Self, Problems> {
        let mut keys = Self::default();
        let mut problems = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            match toml::from_str::<Shape>(&source.text) {
                Ok(shape) => keys.replace(shape, index),
                Err(error) => problems.push(locate::problem(source, &error)),
            }
        }
        if problems.is_empty() { Ok(keys) } else { Err(Problems(problems)) }
    }
}

fn entry<T: Clone + Into<toml::Value>>(key: &Key<T>, sources: &[Source]) -> Entry {
    Entry {
        name: key.name,
        value: key.value.clone().into().to_string(),
        origin: key.at.map(|(source, offset)| {
            let source = &sources[source];
            format!("{}:{}", source.path.display(), locate::place(&source.text, offset).0)
        }),
    }
}

/// The rules as one key, which they are to whoever compares two configurations.
fn rules(rules: &[Key<RuleTable>], sources: &[Source]) -> Entry {
    let tables = rules.iter().map(|rule| toml::Value::try_from(&rule.value));
    // A table of texts and lists of texts is always TOML.
    let tables = tables.collect::<Result<Vec<_>, _>>().unwrap_or_default();
    let first =
        rules.first().map(|rule| Key { name: "policy", value: tables.clone(), at: rule.at });
    entry(&first.unwrap_or(Key { name: "policy", value: tables, at: None }), sources)
}
