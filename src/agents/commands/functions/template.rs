//! The argument vector of a function with places for arguments: parsed when the function is registered,
//! filled for each call. No argument becomes a second element, and none an option unless the template
//! says that it may.

use serde_json::{Map, Value};

use super::schema::{Schema, Shape};
use crate::error::Error;

const FIELD: &str = "function.argv";

/// An argument vector with places.
#[derive(Debug)]
pub(super) struct Template {
    program: String,
    elements: Vec<Element>,
}

/// An element after the program.
#[derive(Debug)]
struct Element {
    parts: Parts,
    /// No option can come here: after `--`.
    is_operand: bool,
}

#[derive(Debug)]
enum Parts {
    /// Texts and arguments, one after the other.
    One(Vec<Part>),
    /// An element for each item of a list.
    Each(Place),
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Place),
}

/// Where an argument goes.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    name: String,
    /// It may begin an element with `-`.
    may_be_option: bool,
}

impl Template {
    /// Parses an argument vector.
    ///
    /// # Errors
    /// `InvalidArgument` naming the element and what is wrong with it.
    pub(super) fn parse(argv: &[String], schema: &Schema) -> Result<Self, Error> {
        let wrong = |index: usize, problem: String| {
            Err(Error::invalid(format!("{FIELD}[{index}]"), problem))
        };
        let Some((program, rest)) = argv.split_first() else {
            return Err(Error::invalid(FIELD, "the program is missing"));
        };
        if let Some(index) = argv.iter().position(|element| element.contains('\0')) {
            return wrong(index, "has a zero byte".to_owned());
        }
        let program = match parts(program) {
            Ok(Parts::One(parts)) => match parts.as_slice() {
                [Part::Text(text)] => text.clone(),
                _ => return wrong(0, "the program must be a fixed text".to_owned()),
            },
            Ok(Parts::Each(_)) => return wrong(0, "the program must be a fixed text".to_owned()),
            Err(problem) => return wrong(0, problem),
        };
        let mut elements = Vec::new();
        let mut is_operand = false;
        for (index, text) in rest.iter().enumerate() {
            let element = match parts(text).and_then(|parts| check(parts, schema)) {
                Ok(parts) => Element { parts, is_operand },
                Err(problem) => return wrong(index + 1, problem),
            };
            is_operand |= text == "--";
            elements.push(element);
        }
        Ok(Self { program, elements })
    }

    /// Fills the places. What is null counts as not given.
    ///
    /// # Errors
    /// `InvalidArgument` naming the argument that cannot stand where its place is.
    pub(super) fn fill(&self, arguments: &Map<String, Value>) -> Result<Vec<String>, Error> {
        let mut argv = vec![self.program.clone()];
        for element in &self.elements {
            match &element.parts {
                Parts::One(parts) => argv.extend(one(parts, element.is_operand, arguments)?),
                Parts::Each(place) => {
                    let items = arguments.get(&place.name).and_then(Value::as_array);
                    for (index, item) in items.into_iter().flatten().enumerate() {
                        let pointer = format!("arguments/{}/{index}", place.name);
                        let text = text(item, &pointer)?;
                        place.refuse_option(&text, element.is_operand, &pointer)?;
                        argv.push(text);
                    }
                }
            }
        }
        Ok(argv)
    }
}

impl Place {
    /// Refuses an element that would be taken for an option because of this argument.
    fn refuse_option(&self, element: &str, is_operand: bool, pointer: &str) -> Result<(), Error> {
        if is_operand || self.may_be_option || !element.starts_with('-') {
            return Ok(());
        }
        Err(Error::invalid(pointer, "must not begin with -, since it would be taken for an option"))
    }
}

/// One element; none if an argument for it is not given.
fn one(
    parts: &[Part],
    is_operand: bool,
    arguments: &Map<String, Value>,
) -> Result<Option<String>, Error> {
    let mut element = String::new();
    for part in parts {
        match part {
            Part::Text(text) => element.push_str(text),
            Part::Place(place) => {
                let given = arguments.get(&place.name).filter(|given| !given.is_null());
                let Some(given) = given else { return Ok(None) };
                let pointer = format!("arguments/{}", place.name);
                let begins = element.is_empty();
                element.push_str(&text(given, &pointer)?);
                if begins {
                    place.refuse_option(&element, is_operand, &pointer)?;
                }
            }
        }
    }
    Ok(Some(element))
}

/// A single argument as text.
fn text(argument: &Value, pointer: &str) -> Result<String, Error> {
    match argument {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        // What the schema lets through has one of the types above.
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(Error::invalid(pointer, "must be a text, a number, or true or false"))
        }
    }
}

/// Parses one element.
fn parts(element: &str) -> Result<Parts, String> {
    let (mut parts, mut text) = (Vec::new(), String::new());
    let mut rest = element;
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            text.push_str(brace);
            rest = after;
            continue;
        }
        let inner = rest.split_once('}').filter(|_| brace == "{");
        let Some((inner, after)) = inner else {
            return Err(format!("{brace} stands alone; a brace is written {brace}{brace}"));
        };
        rest = after;
        let name = inner.strip_suffix("...").unwrap_or(inner);
        let is_list = name.len() < inner.len();
        let place = place(name)?;
        if is_list {
            return match text.is_empty() && parts.is_empty() && rest.is_empty() {
                true => Ok(Parts::Each(place)),
                false => Err(format!("{{{inner}}} must be all of its element")),
            };
        }
        if !text.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut text)));
        }
        parts.push(Part::Place(place));
    }
    text.push_str(rest);
    if !text.is_empty() || parts.is_empty() {
        parts.push(Part::Text(text));
    }
    Ok(Parts::One(parts))
}

fn place(inner: &str) -> Result<Place, String> {
    let name = inner.strip_prefix('-').unwrap_or(inner);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if name.is_empty() || !name.bytes().all(is_name) {
        return Err(format!("{{{inner}}} names no argument; a brace is written {{{{"));
    }
    Ok(Place { name: name.to_owned(), may_be_option: name.len() < inner.len() })
}

/// Every place names a property that may stand there.
fn check(parts: Parts, schema: &Schema) -> Result<Parts, String> {
    let must_be = |place: &Place, shape: Shape, how: &str| match schema.shape(&place.name)? {
        found if found == shape => Ok(()),
        Shape::Single | Shape::List => Err(format!("{:?} {how}", place.name)),
    };
    match &parts {
        Parts::Each(place) => must_be(place, Shape::List, "is no list; write it without ...")?,
        Parts::One(several) => {
            for part in several {
                if let Part::Place(place) = part {
                    let how = "is a list; {name...} as an element of its own gives its items";
                    must_be(place, Shape::Single, how)?;
                }
            }
        }
    }
    Ok(parts)
}
