//! JSON arguments that hold references, as `{"$result": "found/value"}`: finds them, and puts results
//! in their places. The text around them stays as it was sent, to the letter.

use std::collections::{BTreeMap, HashMap};

use serde::de::IgnoredAny;
use serde_json::Value;

use super::budget::Budget;
use crate::error::Error;

const NAME: &str = "$result";

/// What is wrong with an object that looks like a reference and is none.
const FORM: &str = "an object with the member $result has no other, and its value is the id of a call \
     or `id/pointer`; a member of that name is written $$result";

/// Arguments with places for results.
#[derive(Debug, Default)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug)]
enum Piece {
    /// Text as it was sent, or as it was found.
    Text(String),
    Reference(Reference),
}

/// A place for a result.
#[derive(Debug)]
struct Reference {
    id: String,
    /// A JSON pointer: empty, or beginning with `/`.
    pointer: String,
}

impl Piece {
    fn fill(&mut self, result: &mut Found, budget: &mut Budget) -> Result<usize, Error> {
        let Self::Reference(Reference { id, pointer }) = self else { return Ok(0) };
        let Some(text) = result.at(pointer) else {
            let problem = format!("the result of {id} has nothing at {pointer}");
            return Err(Error::invalid("arguments", problem));
        };
        let bytes = text.len();
        budget.take(bytes, "the results that the call uses do not fit")?;
        *self = Self::Text(text.to_owned());
        Ok(bytes)
    }
}

/// A result in which calls find what they use. Each place is written out once, however many use it.
pub(super) struct Found {
    result: Value,
    texts: HashMap<String, Option<String>>,
}

impl Found {
    /// # Errors
    /// `Internal` if `json` is none.
    pub(super) fn new(json: &str) -> Result<Self, Error> {
        let result = serde_json::from_str(json)
            .map_err(|error| Error::internal(format!("the result cannot be read: {error}")))?;
        Ok(Self { result, texts: HashMap::new() })
    }

    fn at(&mut self, pointer: &str) -> Option<&str> {
        if !self.texts.contains_key(pointer) {
            let text = self.result.pointer(pointer).map(Value::to_string);
            self.texts.insert(pointer.to_owned(), text);
        }
        self.texts.get(pointer)?.as_deref()
    }
}

/// The places of a template, by the id of the call whose result goes there.
pub(super) type Places = BTreeMap<String, Vec<usize>>;

impl Template {
    /// The arguments with the references that `text` holds; `None` if it has nothing to be replaced, or
    /// is no JSON, which is for its reader to say.
    ///
    /// # Errors
    /// `InvalidArgument` if an object with the member `$result` is no reference.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, Error> {
        // Either of them is in every text with such a name.
        let suspicious = text.contains(NAME) || text.contains("\\u");
        if !suspicious || serde_json::from_str::<IgnoredAny>(text).is_err() {
            return Ok(None);
        }
        let mut scan = Scan { text, at: 0, copied: 0, opened: None, pieces: Vec::new() };
        scan.run()?;
        if scan.pieces.is_empty() {
            return Ok(None);
        }
        scan.copy_to(text.len());
        Ok(Some(Self { pieces: scan.pieces }))
    }

    /// The places, by id.
    pub(super) fn places(&self) -> Places {
        let mut places = Places::new();
        for (index, piece) in self.pieces.iter().enumerate() {
            if let Piece::Reference(Reference { id, .. }) = piece {
                places.entry(id.clone()).or_default().push(index);
            }
        }
        places
    }

    /// Puts into `places` what stands in `result`, and gives the bytes that this took of `budget`.
    ///
    /// # Errors
    /// `InvalidArgument` if the result has nothing there, `LimitExceeded` if it does not fit.
    pub(super) fn fill(
        &mut self,
        places: &[usize],
        result: &mut Found,
        budget: &mut Budget,
    ) -> Result<usize, Error> {
        let mut taken = 0;
        for index in places {
            let Some(piece) = self.pieces.get_mut(*index) else { continue };
            match piece.fill(result, budget) {
                Ok(bytes) => taken += bytes,
                Err(error) => {
                    budget.release(taken);
                    return Err(error);
                }
            }
        }
        Ok(taken)
    }

    /// The arguments, when every place is filled.
    pub(super) fn into_text(self) -> String {
        let mut text = String::new();
        for piece in self.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(&piece),
                // Not reached: a call is made when those that it uses have ended.
                Piece::Reference(_) => text.push_str("null"),
            }
        }
        text
    }
}

/// A walk over text that is known to be JSON, from name to name.
struct Scan<'a> {
    text: &'a str,
    at: usize,
    /// Everything before is in `pieces`.
    copied: usize,
    /// Where the object begins, if nothing of it has come yet.
    opened: Option<usize>,
    pieces: Vec<Piece>,
}

impl<'a> Scan<'a> {
    fn run(&mut self) -> Result<(), Error> {
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => self.text_or_name()?,
                b'{' => {
                    self.opened = Some(self.at);
                    self.at += 1;
                }
                _ => {
                    self.opened = None;
                    self.at += 1;
                }
            }
        }
        Ok(())
    }

    fn text_or_name(&mut self) -> Result<(), Error> {
        let opened = self.opened.take();
        let start = self.at;
        let raw = self.string();
        // A name that is written with escapes is read as what it stands for.
        let may_be_one = raw.ends_with("result\"") || raw.contains('\\');
        let name = may_be_one.then(|| read(raw)).filter(|name| is_ours(name));
        let end = self.at;
        let (Some(name), Some(b':')) = (name, self.peek()) else { return Ok(()) };
        if name == NAME {
            self.at += 1;
            return self.reference(opened);
        }
        self.copy_to(start);
        self.pieces.push(Piece::Text(format!("\"{}\"", &name[1..])));
        self.copied = end;
        Ok(())
    }

    /// The rest of a reference, from behind the colon.
    fn reference(&mut self, opened: Option<usize>) -> Result<(), Error> {
        let invalid = || Error::invalid("arguments", FORM);
        let (Some(opened), Some(b'"')) = (opened, self.peek()) else { return Err(invalid()) };
        let target = read(self.string());
        let id_end = target.find('/').unwrap_or(target.len());
        let (id, pointer) = target.split_at(id_end);
        if id.is_empty() || self.peek() != Some(b'}') {
            return Err(invalid());
        }
        self.at += 1;
        let (end, id, pointer) = (self.at, id.to_owned(), pointer.to_owned());
        self.copy_to(opened);
        self.pieces.push(Piece::Reference(Reference { id, pointer }));
        self.copied = end;
        Ok(())
    }

    /// Takes over the text up to `end` as it is.
    fn copy_to(&mut self, end: usize) {
        let piece = self.text.get(self.copied..end).unwrap_or_default();
        if !piece.is_empty() {
            self.pieces.push(Piece::Text(piece.to_owned()));
        }
        self.copied = end;
    }

    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    /// The string that begins here, with its quotes.
    fn string(&mut self) -> &'a str {
        let start = self.at;
        let bytes = self.text.as_bytes();
        self.at += 1;
        while let Some(byte) = bytes.get(self.at) {
            self.at += if *byte == b'\\' { 2 } else { 1 };
            if *byte == b'"' {
                break;
            }
        }
        self.text.get(start..self.at).unwrap_or_default()
    }
}

/// What a string of JSON stands for.
fn read(raw: &str) -> String {
    serde_json::from_str(raw).unwrap_or_default()
}

/// True for `$result`, `$$result` and so on.
fn is_ours(name: &str) -> bool {
    name.strip_suffix("result")
        .is_some_and(|signs| !signs.is_empty() && signs.bytes().all(|byte| byte == b'$'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filled(text: &str, results: &[(&str, Value)]) -> String {
        let mut template = Template::parse(text).unwrap().expect("a template");
        let mut places = template.places();
        for (id, result) in results {
            let mut found = Found::new(&result.to_string()).unwrap();
            let mut budget = Budget::new(1000);
            template.fill(&places.remove(*id).unwrap(), &mut found, &mut budget).unwrap();
        }
        assert!(places.is_empty(), "{places:?} of {text}");
        template.into_text()
    }

    #[test]
    fn references_are_replaced_and_the_rest_stays_to_the_letter() {
        let result = json!({"a/b": [10, {"~": "x\"y"}], "n": null});
        let all = [("r", result)];
        for (text, expected) in [
            (r#"{"k": {"$result": "r/a~1b/0"}}"#, r#"{"k": 10}"#),
            (r#"[{ "$result" : "r/a~1b/1/~0" },1.50]"#, r#"["x\"y",1.50]"#),
            (r#"{"\u0024result":"r/n"}"#, "null"),
            (
                r#"{"n":18446744073709551617,"é":[{"$result":"r/n"}]}"#,
                r#"{"n":18446744073709551617,"é":[null]}"#,
            ),
            (r#"["$result", "r", {"$result":"r/n"}]"#, r#"["$result", "r", null]"#),
        ] {
            assert_eq!(filled(text, &all), expected, "{text}");
        }
        assert_eq!(filled(r#"{"$result":"r"}"#, &[("r", json!({"x": 1}))]), r#"{"x":1}"#);
    }

    #[test]
    fn one_sign_is_taken_from_names_with_more_than_one() {
        for (text, expected) in [
            (r#"{"$$result":"r"}"#, r#"{"$result":"r"}"#),
            (r#"{"a":1, "$$$result":{"$$result":[]}}"#, r#"{"a":1, "$$result":{"$result":[]}}"#),
            (r#"{"$\u0024result":"$$result"}"#, r#"{"$result":"$$result"}"#),
        ] {
            assert_eq!(filled(text, &[]), expected, "{text}");
        }
    }

    #[test]
    fn what_has_no_such_name_is_no_template() {
        for text in [
            "",
            r#"{"result":"r"}"#,
            r#"{"key":"$result"}"#,
            r#"{"key":"\u0041","a$result":"r"}"#,
            r#"{"$result":"#,
            r#"{"$result":"r"} {"#,
        ] {
            assert!(Template::parse(text).unwrap().is_none(), "{text}");
        }
    }

    #[test]
    fn an_object_that_only_looks_like_a_reference_is_refused() {
        for text in [
            r#"{"$result":5}"#,
            r#"{"$result":""}"#,
            r#"{"$result":"/a"}"#,
            r#"{"$result":{"$result":"r"}}"#,
            r#"{"$result":"r","b":1}"#,
            r#"{"b":1,"$result":"r"}"#,
            r#"{"b":{},"$result":"r"}"#,
        ] {
            assert_eq!(Template::parse(text).unwrap_err().fact("field"), Some("arguments"));
        }
    }

    #[test]
    fn what_is_missing_is_named_and_what_is_too_much_is_not_taken() {
        let text = r#"[{"$result":"r/a/7"}]"#;
        let mut template = Template::parse(text).unwrap().unwrap();
        let places = template.places().remove("r").unwrap();
        let mut short = Found::new(r#"{"a":[1]}"#).unwrap();
        let error = template.fill(&places, &mut short, &mut Budget::new(9)).unwrap_err();
        assert!(error.message().contains("/a/7"), "{error}");
        let mut large = Found::new(r#"{"a":[0,0,0,0,0,0,0,"0123456789"]}"#).unwrap();
        let error = template.fill(&places, &mut large, &mut Budget::new(9)).unwrap_err();
        assert_eq!(error.fact("limit"), Some("batch.max_result_bytes"));
    }
}
