//! `key=value` arguments as the JSON request of an operation, typed by the operation's JSON Schema.
//! What is wrong is said before anything is called, with the right name or form next to it.

mod duration;
mod nearest;
mod schema;
mod value;

use serde_json::{Map, Value};

use super::problem::Problem;
use nearest::nearest;

pub(super) use duration::parse_timeout;
use schema::Field;
pub(super) use schema::{Kind, Schema, short_names};

/// Builds the request that `pairs` describe.
///
/// # Errors
/// A usage problem that names the key, with what would be right.
pub(super) fn build(schema: &Schema<'_>, pairs: &[String]) -> Result<Value, Problem> {
    let mut request = Value::Object(Map::new());
    for pair in pairs {
        let Some((key, text)) = pair.split_once('=') else {
            return Err(Problem::usage(format!("{pair:?} is not key=value"), keys_of(schema)));
        };
        let path: Vec<&str> = key.split('.').collect();
        Place { key, text }.put(&Kind::Message(*schema), &mut request, &path)?;
    }
    let missing: Vec<&str> = schema
        .fields()
        .iter()
        .filter(|field| field.required && request.get(field.name).is_none())
        .map(|field| field.name)
        .collect();
    if !missing.is_empty() {
        let message = format!("missing: {}", missing.join(", "));
        return Err(Problem::usage(message, keys_of(schema)));
    }
    Ok(request)
}

/// All keys of a message, the required ones first.
fn keys_of(schema: &Schema<'_>) -> String {
    let fields = schema.fields();
    if fields.is_empty() {
        return "it takes no arguments".to_owned();
    }
    let keys = |required: bool| {
        fields.iter().filter(move |field| field.required == required).map(move |field| {
            let form = format!("{}={}", field.name, field.schema.kind().form());
            if required { form } else { format!("[{form}]") }
        })
    };
    let all: Vec<String> = keys(true).chain(keys(false)).collect();
    format!("it takes {}", all.join(" "))
}

/// One `key=value` on its way into the request.
struct Place<'a> {
    key: &'a str,
    text: &'a str,
}

impl Place<'_> {
    /// Puts the value where the rest of the key leads, starting at `slot`, which is null as long as
    /// nothing was put there.
    fn put(&self, kind: &Kind<'_>, slot: &mut Value, rest: &[&str]) -> Result<(), Problem> {
        let Some((first, deeper)) = rest.split_first() else { return self.assign(kind, slot) };
        match kind {
            Kind::Message(message) => {
                let fields = message.fields();
                let field = self.field(message, &fields, first)?;
                let slot = self.member(slot, field.name)?;
                self.put(&field.schema.kind(), slot, deeper)
            }
            Kind::Map(values) => {
                let slot = self.member(slot, first)?;
                self.put(&values.kind(), slot, deeper)
            }
            Kind::Struct | Kind::Any => {
                let slot = self.member(slot, first)?;
                self.put(&Kind::Any, slot, deeper)
            }
            Kind::List(items) => {
                let slot = self.element(slot, first)?;
                self.put(&items.map_or(Kind::Any, |items| items.kind()), slot, deeper)
            }
            Kind::Bool
            | Kind::Integer { .. }
            | Kind::Number
            | Kind::Text
            | Kind::Bytes
            | Kind::Choice(_)
            | Kind::Time
            | Kind::Duration => {
                let message = format!("{}: nothing can stand below a {}", self.key, kind.name());
                Err(Problem::usage(message, format!("write {}", kind.form())))
            }
        }
    }

    fn field<'f, 's>(
        &self,
        message: &Schema<'_>,
        fields: &'f [Field<'s>],
        name: &str,
    ) -> Result<&'f Field<'s>, Problem> {
        fields.iter().find(|field| field.name == name).ok_or_else(|| {
            let names = fields.iter().map(|field| field.name);
            let guess = nearest(name, names)
                .map(|guess| format!(", did you mean {guess}?"))
                .unwrap_or_default();
            let below =
                if self.key.contains('.') { format!(" in {}", self.key) } else { String::new() };
            Problem::usage(format!("unknown key {name}{below}{guess}"), keys_of(message))
        })
    }

    /// The member `name` of the object at `slot`, which becomes one if it is null.
    fn member<'v>(&self, slot: &'v mut Value, name: &str) -> Result<&'v mut Value, Problem> {
        if slot.is_null() {
            *slot = Value::Object(Map::new());
        }
        let Value::Object(object) = slot else { return Err(self.twice()) };
        Ok(object.entry(name).or_insert(Value::Null))
    }

    /// The element at the position `index` of the list at `slot`: one that is there, or the next.
    fn element<'v>(&self, slot: &'v mut Value, index: &str) -> Result<&'v mut Value, Problem> {
        if slot.is_null() {
            *slot = Value::Array(Vec::new());
        }
        let Value::Array(list) = slot else { return Err(self.twice()) };
        let length = list.len();
        match index.parse::<usize>() {
            Ok(index) if index <= length => {
                if index == length {
                    list.push(Value::Null);
                }
                Ok(&mut list[index])
            }
            _ => Err(Problem::usage(
                format!("{}: {index:?} is no position in the list", self.key),
                format!("positions count from 0; the next one is {length}"),
            )),
        }
    }

    fn assign(&self, kind: &Kind<'_>, slot: &mut Value) -> Result<(), Problem> {
        if let Kind::List(items) = kind {
            return self.append(&items.map_or(Kind::Any, |items| items.kind()), slot);
        }
        if !slot.is_null() {
            return Err(self.twice());
        }
        *slot = self.value(kind, self.text)?;
        Ok(())
    }

    /// Adds to the list at `slot`: a JSON array, a JSON object, or texts between commas.
    fn append(&self, items: &Kind<'_>, slot: &mut Value) -> Result<(), Problem> {
        if slot.is_null() {
            *slot = Value::Array(Vec::new());
        }
        let Value::Array(list) = slot else { return Err(self.twice()) };
        let text = self.text.trim();
        if text.starts_with('[') {
            let elements: Vec<Value> = serde_json::from_str(text).map_err(|error| {
                Problem::usage(format!("{}: is no JSON array: {error}", self.key), "")
            })?;
            list.extend(elements);
        } else if text.starts_with('{') {
            list.push(self.value(items, text)?);
        } else if !text.is_empty() {
            for part in text.split(',') {
                list.push(self.value(items, part)?);
            }
        }
        Ok(())
    }

    fn value(&self, kind: &Kind<'_>, text: &str) -> Result<Value, Problem> {
        value::typed(kind, text).map_err(|problem| {
            let form = format!("{}={}", self.key, kind.form());
            Problem::usage(format!("{}: {problem}", self.key), format!("write {form}"))
        })
    }

    fn twice(&self) -> Problem {
        Problem::usage(format!("{}: was given before", self.key), "give each key once")
    }
}

#[cfg(test)]
mod tests;
