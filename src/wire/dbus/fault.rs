//! What was wrong with a value and where: serde's errors are only text, so the place and the problem
//! are kept here while serde unwinds. It decides on no error kind.

/// The first problem that was met.
#[derive(Debug, Default)]
pub(crate) struct Fault {
    problem: Option<String>,
    /// The fields around the problem, the innermost first.
    path: Vec<String>,
}

impl Fault {
    /// Notes the problem and gives the error that makes serde unwind.
    pub(crate) fn note<E: serde::de::Error>(&mut self, problem: impl Into<String>) -> E {
        let problem = problem.into();
        let error = E::custom(&problem);
        self.set(problem);
        error
    }

    /// Notes the problem, unless one was noted before.
    pub(crate) fn set(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }

    /// True if a problem was noted.
    pub(crate) fn is_noted(&self) -> bool {
        self.problem.is_some()
    }

    /// Notes that the problem is in the field `name`.
    pub(crate) fn within(&mut self, name: &str) {
        self.path.push(name.to_owned());
    }

    /// Where the problem is, as `everything.nested.a_bool`, and what it is. `fallback` is the problem
    /// that the D-Bus library found, if none was noted; `whole` the name of the place if it is in no
    /// field.
    pub(crate) fn into_parts(
        self,
        fallback: impl std::fmt::Display,
        whole: &str,
    ) -> (String, String) {
        let problem = self.problem.unwrap_or_else(|| fallback.to_string());
        let path: Vec<String> = self.path.into_iter().rev().collect();
        let place = if path.is_empty() { whole.to_owned() } else { path.join(".") };
        (place, problem)
    }
}
