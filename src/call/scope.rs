//! What a token or a client certificate is limited to, beside the rights of the user it stands for. It
//! grants nothing.

use crate::error::Error;
use crate::proto::opdbus::v1::Risk;

/// The operations and risks that a caller is limited to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// None: every operation.
    operations: Option<Vec<Operations>>,
    /// None: every risk.
    risks: Option<Vec<Risk>>,
}

/// All operations of an agent, or one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Operations {
    agent: String,
    operation: Option<String>,
}

impl Scope {
    /// The scope of `operations`, as `memory.*` and `memory.recall`, with `risks`, as `read`. An empty
    /// list limits nothing; two lists both limit. `None` if nothing is limited.
    ///
    /// # Errors
    /// `InvalidArgument` naming `operations` or `risks`.
    pub fn new(operations: &[String], risks: &[String]) -> Result<Option<Self>, Error> {
        let operations: Vec<_> =
            operations.iter().map(|text| parse(text)).collect::<Result<_, _>>()?;
        let risks: Vec<_> = risks.iter().map(|text| risk(text)).collect::<Result<_, _>>()?;
        let scope = Self {
            operations: (!operations.is_empty()).then_some(operations),
            risks: (!risks.is_empty()).then_some(risks),
        };
        Ok((scope.operations.is_some() || scope.risks.is_some()).then_some(scope))
    }

    /// True if an operation with this risk lies within.
    #[must_use]
    pub fn allows(&self, agent: &str, operation: &str, risk: Risk) -> bool {
        let names = |it: &Operations| {
            it.agent == agent && it.operation.as_deref().is_none_or(|it| same(it, operation))
        };
        self.operations.as_ref().is_none_or(|all| all.iter().any(names))
            && self.risks.as_ref().is_none_or(|risks| risks.contains(&risk))
    }
}

fn parse(text: &str) -> Result<Operations, Error> {
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    match text.split_once('.') {
        Some((agent, "*")) if is_name(agent) => {
            Ok(Operations { agent: agent.to_owned(), operation: None })
        }
        Some((agent, operation)) if is_name(agent) && is_name(operation) => {
            Ok(Operations { agent: agent.to_owned(), operation: Some(operation.to_owned()) })
        }
        Some(_) | None => Err(Error::invalid(
            "operations",
            format!(
                "{text:?} is neither \"AGENT.*\" nor \"AGENT.OPERATION\", as \"memory.recall\""
            ),
        )),
    }
}

fn risk(text: &str) -> Result<Risk, Error> {
    let name = format!("RISK_{}", text.to_ascii_uppercase());
    Risk::from_str_name(&name).filter(|risk| *risk != Risk::Unspecified).ok_or_else(|| {
        let problem = format!("{text:?} is none of read, write, execute, deploy, admin");
        Error::invalid("risks", problem)
    })
}

/// True if both are the same name, as `BulkRemember` and `bulk_remember`.
fn same(one: &str, other: &str) -> bool {
    let plain = |text: &'_ str| {
        let bytes = text.bytes().filter(|byte| *byte != b'_');
        bytes.map(|byte| byte.to_ascii_lowercase()).collect::<Vec<_>>()
    };
    plain(one) == plain(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(operations: &[&str], risks: &[&str]) -> Option<Scope> {
        let owned =
            |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Scope::new(&owned(operations), &owned(risks)).unwrap()
    }

    #[test]
    fn it_allows_what_it_names_and_nothing_else() {
        assert_eq!(scope(&[], &[]), None);
        let some = scope(&["memory.*", "tasks.GetTask", "context_manager.list"], &[]).unwrap();
        assert!(some.allows("memory", "Remember", Risk::Write));
        assert!(some.allows("tasks", "GetTask", Risk::Read));
        assert!(some.allows("context_manager", "List", Risk::Admin));
        assert!(!some.allows("tasks", "CancelTask", Risk::Write));
        assert!(!some.allows("memor", "Remember", Risk::Write));
        let reads = scope(&["memory.bulk_remember"], &["read", "WRITE"]).unwrap();
        assert!(reads.allows("memory", "BulkRemember", Risk::Write));
        assert!(!reads.allows("memory", "BulkRemember", Risk::Admin), "both lists limit");
        assert!(!reads.allows("memory", "Recall", Risk::Read), "both lists limit");
    }

    #[test]
    fn what_is_no_operation_or_risk_is_refused() {
        for wrong in ["memory", "*", "*.*", "memory.", ".x", "memory.a b", "memory.re*"] {
            let error = Scope::new(&[wrong.to_owned()], &[]).unwrap_err();
            assert_eq!(error.fact("field"), Some("operations"), "{wrong}");
        }
        for wrong in ["", "unspecified", "reads"] {
            let error = Scope::new(&[], &[wrong.to_owned()]).unwrap_err();
            assert_eq!(error.fact("field"), Some("risks"), "{wrong}");
        }
    }
}
