//! How each method is read and written, compiled once from its descriptors so that no call looks at
//! a descriptor. It reads and writes nothing itself.

use std::collections::HashMap;
use std::sync::Arc;

use prost_reflect::{EnumDescriptor, FieldDescriptor, MessageDescriptor};
use zbus::Signature;

use crate::contract::{self, Operation, Service};
use crate::error::Error;

/// How many messages, lists and objects of `Value` may stand inside each other. D-Bus itself ends at
/// 64 containers, of which a nested message takes up to five.
pub(crate) const MAX_LEVELS: usize = 15;

/// Every message type that the methods of one service reach. Types refer to each other by position,
/// because they may be recursive.
#[derive(Debug, Default)]
pub(crate) struct Arena(Vec<Message>);

/// One message type.
#[derive(Debug, Default)]
pub(crate) struct Message {
    /// By number.
    pub(crate) fields: Vec<Field>,
    by_name: HashMap<Box<str>, usize>,
}

/// One field.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: Box<str>,
    pub(crate) number: u32,
    pub(crate) shape: Shape,
    pub(crate) signature: Signature,
    /// The same as text, as variants bear it.
    pub(crate) signature_text: Box<str>,
    /// The oneof that it belongs to, by position in the message.
    pub(crate) oneof: Option<usize>,
    /// True if it can be absent, which is then not the same as holding its default.
    pub(crate) has_presence: bool,
}

/// How often a field holds its kind.
#[derive(Debug)]
pub(crate) enum Shape {
    One(Kind),
    List(Kind),
    Map(Kind, Kind),
}

/// What one value is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Bool,
    Int32,
    Sint32,
    Sfixed32,
    Uint32,
    Fixed32,
    Int64,
    Sint64,
    Sfixed64,
    Uint64,
    Fixed64,
    Float,
    Double,
    String,
    Bytes,
    Enum(Arc<Names>),
    /// A message by its position in the arena.
    Message(usize),
    Timestamp,
    Duration,
    Value,
    Struct,
    ListValue,
}

/// The values of an enum.
#[derive(Debug)]
pub(crate) struct Names {
    /// The name without prefix in lower case, by number.
    pub(crate) by_number: HashMap<i32, Box<str>>,
    /// Short and full names in lower case.
    by_name: HashMap<Box<str>, i32>,
}

/// How one method is called.
#[derive(Debug)]
pub(crate) struct Method {
    pub(crate) name: String,
    pub(crate) arena: Arc<Arena>,
    /// The type of the request; if the requests are a stream, a type with them all as field 1.
    pub(crate) input: usize,
    /// The fields of the request that are arguments, by position.
    pub(crate) inputs: Vec<usize>,
    /// True if the requests are a stream.
    #[cfg(feature = "daemon")]
    pub(crate) takes_messages: bool,
    pub(crate) in_signature: Signature,
    /// The type of the response, or of each one.
    pub(crate) output: usize,
    /// The fields of the response that are arguments, by position.
    pub(crate) outputs: Vec<usize>,
    pub(crate) has_extra: bool,
    pub(crate) out_signature: Signature,
}

impl Arena {
    pub(crate) fn message(&self, index: usize) -> &Message {
        &self.0[index]
    }
}

impl Message {
    fn new(mut fields: Vec<Field>) -> Self {
        fields.sort_by_key(|field| field.number);
        let by_name =
            fields.iter().enumerate().map(|(index, field)| (field.name.clone(), index)).collect();
        Self { fields, by_name }
    }

    /// The position of the field called `name`.
    pub(crate) fn named(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The position of the field with the number `number`.
    pub(crate) fn numbered(&self, number: u32) -> Option<usize> {
        self.fields.binary_search_by_key(&number, |field| field.number).ok()
    }
}

impl Field {
    /// A field that is in no protobuf message.
    fn plain(name: &str, number: u32, shape: Shape, signature: Signature) -> Self {
        Self {
            name: name.into(),
            number,
            shape,
            signature_text: signature.to_string().into(),
            signature,
            oneof: None,
            has_presence: false,
        }
    }
}

impl Kind {
    /// The D-Bus type that a value of the kind takes, for errors.
    pub(crate) fn expected(&self) -> &'static str {
        match self {
            Self::Bool => "b",
            Self::Float | Self::Double => "d",
            Self::String | Self::Enum(_) => "s",
            Self::Timestamp | Self::Duration => "x (microseconds)",
            Self::Bytes => "ay",
            Self::Message(_) | Self::Struct => "a{sv}",
            Self::Value => "v",
            Self::ListValue => "av",
            Self::Int32
            | Self::Sint32
            | Self::Sfixed32
            | Self::Uint32
            | Self::Fixed32
            | Self::Int64
            | Self::Sint64
            | Self::Sfixed64
            | Self::Uint64
            | Self::Fixed64 => "an integer",
        }
    }
}

impl Names {
    fn new(descriptor: &EnumDescriptor) -> Self {
        let prefix = prefix_of(descriptor.name());
        let mut names = Self { by_number: HashMap::new(), by_name: HashMap::new() };
        for value in descriptor.values() {
            let full = value.name().to_lowercase();
            // What would begin with a digit could be taken for a number.
            let short = full
                .strip_prefix(&prefix)
                .filter(|rest| rest.starts_with(|first: char| !first.is_ascii_digit()));
            let short: Box<str> = short.unwrap_or(&full).into();
            // Of several names for one number the first is the one that is shown.
            names.by_number.entry(value.number()).or_insert_with(|| short.clone());
            names.by_name.insert(short, value.number());
            names.by_name.insert(full.into(), value.number());
        }
        names
    }

    /// The number behind a name, in any case, with or without prefix, or behind its decimal text.
    pub(crate) fn number(&self, name: &str) -> Option<i32> {
        let known = self.by_name.get(name).copied();
        known.or_else(|| self.by_name.get(name.to_lowercase().as_str()).copied()).or_else(|| {
            let number: i32 = name.parse().ok()?;
            // One spelling for each number, so that the mapping is the same both ways.
            (number.to_string() == name).then_some(number)
        })
    }

    /// The names that there are.
    pub(crate) fn all(&self) -> String {
        let mut numbers: Vec<_> = self.by_number.iter().collect();
        numbers.sort_by_key(|(number, _)| **number);
        let names: Vec<&str> = numbers.into_iter().map(|(_, name)| name.as_ref()).collect();
        names.join(", ")
    }
}

/// The prefix that the values of an enum bear, in lower case: `RiskLevel` has `risk_level_`.
fn prefix_of(name: &str) -> String {
    let mut prefix = String::new();
    let mut after_lower = false;
    for letter in name.chars() {
        if letter.is_uppercase() && after_lower {
            prefix.push('_');
        }
        after_lower = letter.is_lowercase() || letter.is_ascii_digit();
        prefix.extend(letter.to_lowercase());
    }
    prefix.push('_');
    prefix
}

/// An operation and how it is called.
pub(crate) type Compiled = (Arc<Operation>, Arc<Method>);

/// Compiles the plans of all methods of a service, by name.
///
/// # Errors
/// `Internal` if a type has no D-Bus signature.
pub(crate) fn compile(service: &Service) -> Result<Vec<Compiled>, Error> {
    let mut compiler = Compiler::default();
    let mut types = Vec::new();
    for operation in &service.operations {
        if operation.is_on_bus() {
            let mut input = compiler.message(&operation.input)?;
            if operation.shape.takes_messages {
                input = compiler.stream_of(input)?;
            }
            let output = compiler.message(&operation.output)?;
            types.push((operation, input, output));
        }
    }
    let arena = Arc::new(Arena(compiler.messages));
    types
        .into_iter()
        .map(|(operation, input, output)| {
            let method = method(operation, &arena, input, output)?;
            Ok((Arc::clone(operation), Arc::new(method)))
        })
        .collect()
}

/// How `org.opdbus.Agent1.CallJson` is read, which is in no protobuf service: two texts, as fields 1
/// and 2, and no option of its own.
#[cfg(feature = "daemon")]
pub(crate) fn call_json() -> Method {
    let text = |name, number| Field::plain(name, number, Shape::One(Kind::String), Signature::Str);
    let request = Message::new(vec![text("operation", 1), text("arguments", 2)]);
    let options = Signature::dict(Signature::Str, Signature::Variant);
    Method {
        name: "CallJson".to_owned(),
        arena: Arc::new(Arena(vec![request])),
        input: 0,
        inputs: vec![0, 1],
        takes_messages: false,
        in_signature: Signature::structure([Signature::Str, Signature::Str, options]),
        output: 0,
        outputs: vec![],
        has_extra: false,
        out_signature: Signature::Str,
    }
}

fn method(
    operation: &Operation,
    arena: &Arc<Arena>,
    input: usize,
    output: usize,
) -> Result<Method, Error> {
    let shape = &operation.shape;
    let positions = |message: usize, arguments: &[contract::Argument]| -> Vec<usize> {
        let message = arena.message(message);
        arguments.iter().filter_map(|argument| message.numbered(argument.field.number())).collect()
    };
    Ok(Method {
        name: operation.name.clone(),
        inputs: if shape.takes_messages { vec![0] } else { positions(input, &shape.inputs) },
        #[cfg(feature = "daemon")]
        takes_messages: shape.takes_messages,
        outputs: positions(output, &shape.outputs),
        arena: Arc::clone(arena),
        input,
        output,
        in_signature: parse(&format!("({})", shape.in_signature))?,
        has_extra: shape.has_extra,
        out_signature: if shape.out_signature.is_empty() {
            Signature::Unit
        } else {
            parse(&format!("({})", shape.out_signature))?
        },
    })
}

fn parse(signature: &str) -> Result<Signature, Error> {
    Signature::try_from(signature)
        .map_err(|error| Error::internal(format!("{signature:?} is no D-Bus signature: {error}")))
}

#[derive(Default)]
struct Compiler {
    messages: Vec<Message>,
    known: HashMap<String, usize>,
}

impl Compiler {
    fn message(&mut self, descriptor: &MessageDescriptor) -> Result<usize, Error> {
        if let Some(index) = self.known.get(descriptor.full_name()) {
            return Ok(*index);
        }
        let index = self.messages.len();
        self.messages.push(Message::default());
        self.known.insert(descriptor.full_name().to_owned(), index);
        let fields = descriptor.fields().map(|field| self.field(&field));
        self.messages[index] = Message::new(fields.collect::<Result<_, Error>>()?);
        Ok(index)
    }

    /// A type that holds a stream of the type `element` as its field 1.
    fn stream_of(&mut self, element: usize) -> Result<usize, Error> {
        let shape = Shape::List(Kind::Message(element));
        let field = Field::plain("messages", 1, shape, parse(contract::MESSAGES)?);
        self.messages.push(Message::new(vec![field]));
        Ok(self.messages.len() - 1)
    }

    fn field(&mut self, field: &FieldDescriptor) -> Result<Field, Error> {
        let signature_text = contract::signature(field);
        let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
        Ok(Field {
            name: field.name().into(),
            number: field.number(),
            shape: self.shape(field)?,
            signature: parse(&signature_text)?,
            signature_text: signature_text.into(),
            oneof: oneof
                .and_then(|oneof| field.parent_message().oneofs().position(|other| other == oneof)),
            has_presence: field.supports_presence(),
        })
    }

    fn shape(&mut self, field: &FieldDescriptor) -> Result<Shape, Error> {
        if field.is_map()
            && let prost_reflect::Kind::Message(entry) = field.kind()
        {
            let key = self.kind(entry.map_entry_key_field().kind())?;
            return Ok(Shape::Map(key, self.kind(entry.map_entry_value_field().kind())?));
        }
        let kind = self.kind(field.kind())?;
        Ok(if field.is_list() { Shape::List(kind) } else { Shape::One(kind) })
    }

    fn kind(&mut self, kind: prost_reflect::Kind) -> Result<Kind, Error> {
        use prost_reflect::Kind as Described;
        Ok(match kind {
            Described::Bool => Kind::Bool,
            Described::Int32 => Kind::Int32,
            Described::Sint32 => Kind::Sint32,
            Described::Sfixed32 => Kind::Sfixed32,
            Described::Uint32 => Kind::Uint32,
            Described::Fixed32 => Kind::Fixed32,
            Described::Int64 => Kind::Int64,
            Described::Sint64 => Kind::Sint64,
            Described::Sfixed64 => Kind::Sfixed64,
            Described::Uint64 => Kind::Uint64,
            Described::Fixed64 => Kind::Fixed64,
            Described::Float => Kind::Float,
            Described::Double => Kind::Double,
            Described::String => Kind::String,
            Described::Bytes => Kind::Bytes,
            Described::Enum(descriptor) => Kind::Enum(Arc::new(Names::new(&descriptor))),
            Described::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => Kind::Timestamp,
                "google.protobuf.Duration" => Kind::Duration,
                "google.protobuf.Value" => Kind::Value,
                "google.protobuf.Struct" => Kind::Struct,
                "google.protobuf.ListValue" => Kind::ListValue,
                _ => Kind::Message(self.message(&message)?),
            },
        })
    }
}
