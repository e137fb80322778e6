//! A JSON Schema as the service gives it, read as what people type for it. It covers the schemas
//! that op-dbus derives from protobuf; anything else counts as any JSON value.

use serde_json::Value;

/// A place in a schema.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schema<'a> {
    root: &'a Value,
    node: &'a Value,
}

/// A field of a message.
#[derive(Debug)]
pub(crate) struct Field<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Its schema.
    pub(crate) schema: Schema<'a>,
    /// True if it must be given.
    pub(crate) required: bool,
    /// Its documentation.
    pub(crate) docs: &'a str,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Kind<'a> {
    /// True or false.
    Bool,
    /// A whole number within bounds.
    Integer {
        /// The least.
        min: i128,
        /// The greatest.
        max: i128,
        /// True if its JSON form is text, as canonical JSON writes 64-bit numbers.
        text: bool,
    },
    /// A number.
    Number,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// One of these names.
    Choice(Vec<&'a str>),
    /// A point in time.
    Time,
    /// A length of time.
    Duration,
    /// Any JSON value.
    Any,
    /// Any JSON object.
    Struct,
    /// A message.
    Message(Schema<'a>),
    /// Values under keys.
    Map(Schema<'a>),
    /// A list; of any JSON values if nothing is said.
    List(Option<Schema<'a>>),
}

impl<'a> Schema<'a> {
    /// The schema of a request or response.
    pub(crate) fn new(root: &'a Value) -> Self {
        Self { root, node: root }
    }

    fn at(self, node: &'a Value) -> Self {
        Self { root: self.root, node }
    }

    /// The same, with a reference followed.
    fn resolved(self) -> Self {
        let target = self.node["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/"));
        match target {
            Some(name) => self.at(&self.root["$defs"][name]),
            None => self,
        }
    }

    /// The messages that the schema refers to, by the last part of their names.
    pub(crate) fn definitions(self) -> Vec<(&'a str, Schema<'a>)> {
        let definitions = self.root["$defs"].as_object();
        definitions
            .into_iter()
            .flatten()
            .map(|(name, node)| (name.rsplit('.').next().unwrap_or(name), self.at(node)))
            .collect()
    }

    /// The fields of a message, as the contract orders them; none if it is no message.
    pub(crate) fn fields(self) -> Vec<Field<'a>> {
        let node = self.resolved().node;
        let required = |name: &str| {
            node["required"]
                .as_array()
                .is_some_and(|names| names.iter().any(|required| required == name))
        };
        let properties = node["properties"].as_object();
        properties
            .into_iter()
            .flatten()
            .map(|(name, property)| Field {
                name,
                schema: self.at(property),
                required: required(name),
                docs: property["description"].as_str().unwrap_or_default(),
            })
            .collect()
    }

    /// What a value of this schema is.
    pub(crate) fn kind(self) -> Kind<'a> {
        let Self { node, .. } = self.resolved();
        if let Some(names) = node["enum"].as_array() {
            return Kind::Choice(names.iter().filter_map(Value::as_str).collect());
        }
        match (node["type"].as_str(), node["format"].as_str()) {
            (Some("boolean"), _) => Kind::Bool,
            (Some("integer"), _) => Kind::Integer {
                min: node["minimum"].as_i64().map_or(i128::from(i64::MIN), i128::from),
                max: node["maximum"].as_i64().map_or(i128::from(i64::MAX), i128::from),
                text: false,
            },
            (None, Some("int64")) => {
                Kind::Integer { min: i64::MIN.into(), max: i64::MAX.into(), text: true }
            }
            (None, Some("uint64")) => Kind::Integer { min: 0, max: u64::MAX.into(), text: true },
            (None, _) if node["type"].is_array() => Kind::Number,
            (Some("string"), Some("date-time")) => Kind::Time,
            (Some("string"), _) if node["contentEncoding"] == "base64" => Kind::Bytes,
            (Some("string"), _) if node["pattern"].is_string() => Kind::Duration,
            (Some("string"), _) => Kind::Text,
            (Some("object"), _) if node["additionalProperties"].is_object() => {
                Kind::Map(self.at(&node["additionalProperties"]))
            }
            (Some("object"), _) if node["properties"].is_object() => Kind::Message(self.at(node)),
            (Some("object"), _) => Kind::Struct,
            (Some("array"), _) => {
                Kind::List(node["items"].is_object().then(|| self.at(&node["items"])))
            }
            _ => Kind::Any,
        }
    }

    /// The last part of the message's name, if it is a nested message.
    fn message_name(self) -> &'a str {
        let node = self.node;
        node["$ref"].as_str().and_then(|name| name.rsplit('.').next()).unwrap_or("message")
    }

    /// What a value is, for people.
    pub(crate) fn type_name(self) -> String {
        let kind = self.kind();
        if let Kind::Message(_) = kind {
            self.message_name().to_owned()
        } else if let Kind::Map(values) = kind {
            format!("map of {}", values.type_name())
        } else if let Kind::List(Some(items)) = kind {
            format!("list of {}", items.type_name())
        } else {
            kind.name().to_owned()
        }
    }
}

impl Kind<'_> {
    /// The kind, for people.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Bool => "boolean",
            Self::Integer { min: 0, .. } => "unsigned integer",
            Self::Integer { .. } => "integer",
            Self::Number => "number",
            Self::Text => "text",
            Self::Bytes => "bytes",
            Self::Choice(_) => "choice",
            Self::Time => "time",
            Self::Duration => "duration",
            Self::Any => "any JSON value",
            Self::Struct => "JSON object",
            Self::Message(_) => "message",
            Self::Map(_) => "map",
            Self::List(_) => "list",
        }
    }

    /// What is typed for it.
    pub(crate) fn form(&self) -> String {
        match self {
            Self::Bool => "true|false".to_owned(),
            Self::Integer { .. } | Self::Number => "NUMBER".to_owned(),
            Self::Text => "TEXT".to_owned(),
            Self::Bytes => "@FILE|BASE64".to_owned(),
            Self::Choice(names) => short_names(names).join("|"),
            Self::Time => "2026-01-31T12:00:00Z".to_owned(),
            Self::Duration => "90s".to_owned(),
            Self::Any => "JSON".to_owned(),
            Self::Struct | Self::Message(_) | Self::Map(_) => "{JSON}".to_owned(),
            Self::List(Some(items)) => {
                let item = items.kind();
                if matches!(item, Self::Message(_) | Self::Map(_) | Self::Struct) {
                    "[JSON]".to_owned()
                } else {
                    format!("{},…", item.form())
                }
            }
            Self::List(None) => "JSON,…".to_owned(),
        }
    }
}

/// The names of an enum's values in lower case, without the prefix that they have in common.
pub(crate) fn short_names(names: &[&str]) -> Vec<String> {
    let prefix = match names {
        [] => 0,
        [only] => only.rfind("_UNSPECIFIED").map_or(0, |end| end + 1),
        [first, rest @ ..] => {
            let common = rest.iter().fold(first.len(), |length, name| {
                let same = first.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
                length.min(same)
            });
            first[..common].rfind('_').map_or(0, |underscore| underscore + 1)
        }
    };
    names.iter().map(|name| name[prefix..].to_ascii_lowercase()).collect()
}
