//! One rule of the policy: which calls it is about, and what it says to them. Whom it is about is in
//! `who`; in which order rules are asked is not known here.

use std::fmt;

use super::Who;
use crate::contract::{Operation, same_name};
use crate::proto::opdbus::v1::{MayApprove, PolicyDecision, Risk};

/// The group whose members may do what changes services, op-dbus or the machine.
pub const ADMIN_GROUP: &str = "op-dbus-admin";

/// A rule. What it does not name, it does not ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The callers.
    pub who: Who,
    /// The ids of the agents; empty: any.
    pub agents: Vec<String>,
    /// The operations, as `ExecShell` or `exec_shell`; empty: any.
    pub operations: Vec<String>,
    /// What the operations may do.
    pub risks: Risks,
    /// What it says to such a call; `None`: nothing, the rules after it are asked.
    pub decision: Option<Decision>,
    /// Which of such calls these users may approve; `None`: the rules after it are asked.
    pub may_approve: Option<Approver>,
    /// Why it is there, in the words of whoever wrote it.
    pub reason: String,
    /// Where it stands, as `/etc/op-dbus/grpc.toml:12`.
    pub origin: String,
}

/// The risks that a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Risks {
    /// Any.
    Any,
    /// This one and graver ones.
    AtLeast(Risk),
    /// These.
    Exactly(Vec<Risk>),
}

/// What the policy says to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is let through.
    Allow,
    /// It is refused.
    Deny,
    /// Somebody else must approve it first.
    Ask,
    /// The authority of the machine, polkit, says whether it is let through; without one it is refused.
    Auth,
}

/// Which calls somebody may approve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approver {
    /// Those of others.
    Others,
    /// His own, too.
    All,
}

impl Rule {
    /// A rule of the build that says `decision` to every call of `who` with these risks.
    pub(super) fn built_in(who: Who, risks: Risks, decision: Decision) -> Self {
        Self { risks, origin: "built in".to_owned(), ..Self::for_all(who, decision) }
    }

    /// A rule that says `decision` to every call of `who`.
    #[must_use]
    pub fn for_all(who: Who, decision: Decision) -> Self {
        Self {
            who,
            agents: Vec::new(),
            operations: Vec::new(),
            risks: Risks::Any,
            decision: Some(decision),
            may_approve: None,
            reason: String::new(),
            origin: String::new(),
        }
    }

    /// True if the rule is about calls of this operation.
    pub(super) fn is_about(&self, operation: &Operation) -> bool {
        let agent = self.agents.is_empty() || self.agents.contains(&operation.agent);
        let mut names = self.operations.iter();
        let name = self.operations.is_empty() || names.any(|name| same_name(name, &operation.name));
        agent && name && self.risks.contain(operation.risk)
    }

    /// Which calls it is about, for people.
    pub(in crate::executor) fn what(&self) -> String {
        let mut parts = Vec::new();
        for (name, list) in [("agent", &self.agents), ("operation", &self.operations)] {
            if !list.is_empty() {
                parts.push(format!("{name} {}", list.join(" or ")));
            }
        }
        match &self.risks {
            Risks::Any => {}
            Risks::AtLeast(risk) => parts.push(format!("risk {} or graver", risk_name(*risk))),
            Risks::Exactly(risks) => {
                let names: Vec<String> = risks.iter().copied().map(risk_name).collect();
                parts.push(format!("risk {}", names.join(" or ")));
            }
        }
        if parts.is_empty() { "every operation".to_owned() } else { parts.join(", ") }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.who, self.what())?;
        if let Some(decision) = self.decision {
            write!(f, ": {}", decision.name())?;
        }
        if let Some(approver) = self.may_approve {
            write!(f, ": may approve {}", approver.name())?;
        }
        if !self.reason.is_empty() {
            write!(f, " ({})", self.reason)?;
        }
        Ok(())
    }
}

impl Risks {
    fn contain(&self, risk: Risk) -> bool {
        match self {
            Self::Any => true,
            Self::AtLeast(least) => risk as i32 >= *least as i32,
            Self::Exactly(risks) => risks.contains(&risk),
        }
    }
}

impl Decision {
    /// Every decision.
    pub const ALL: [Self; 4] = [Self::Allow, Self::Deny, Self::Ask, Self::Auth];

    /// The word in the configuration and in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Ask => "ask",
            Self::Auth => "auth",
        }
    }
}

impl From<Decision> for PolicyDecision {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Allow => Self::Allow,
            Decision::Deny => Self::Deny,
            Decision::Ask => Self::Ask,
            Decision::Auth => Self::Auth,
        }
    }
}

impl Approver {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Others, Self::All];

    /// The word in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Others => "others",
            Self::All => "all",
        }
    }
}

impl From<Approver> for MayApprove {
    fn from(approver: Approver) -> Self {
        match approver {
            Approver::Others => Self::Others,
            Approver::All => Self::All,
        }
    }
}

/// The name of a risk in the configuration, as `deploy`.
#[must_use]
pub fn risk_name(risk: Risk) -> String {
    risk.as_str_name().trim_start_matches("RISK_").to_ascii_lowercase()
}

/// The risk with this name.
#[must_use]
pub fn risk_named(name: &str) -> Option<Risk> {
    let risk = Risk::from_str_name(&format!("RISK_{}", name.to_ascii_uppercase()))?;
    (risk != Risk::Unspecified && risk_name(risk) == name).then_some(risk)
}
