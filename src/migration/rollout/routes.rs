//! What a client is told: the stages of its own calls, and what the choice at stage `canary` is made
//! with. How that reaches it is not known here.

use prost::Message as _;
use ring::digest::{Context, SHA256, digest};

use super::position::WHOLE;
use super::state::{InForce, Ruled};
use crate::migration::Client;
use crate::proto::opdbus::v1::{GetRoutesResponse, Route};
use crate::storage::time;

/// How many bytes of a digest stand for what was digested.
const SHORT: usize = 8;

impl InForce {
    /// The stages of a client's calls.
    #[must_use]
    pub fn routes(&self, client: &Client<'_>) -> GetRoutesResponse {
        let own = self.rules.iter().filter(|ruled| ruled.rule.who.covers(client));
        let routes: Vec<Route> = own.map(route).collect();
        GetRoutesResponse { version: version(&routes), client: id(client), routes }
    }
}

/// A rule as clients are told it.
pub(super) fn route(ruled: &Ruled) -> Route {
    let (rule, state) = (&ruled.rule, &ruled.state);
    Route {
        agents: rule.agents.clone(),
        operations: rule.operations.clone(),
        stage: state.position.stage().into(),
        share_per_10000: state.position.share(),
        // The same for every share, so that who takes gRPC goes on to while the share grows.
        salt: rule.name.clone(),
        changed: Some(time::timestamp(state.changed)),
        changed_by: state.changed_by.clone(),
        rule: rule.name.clone(),
    }
}

/// Where the choice at stage `canary` puts a session or client, of 10,000: it takes gRPC if that is below
/// the share. `tests/data/canary.txt` has examples for other implementations.
#[must_use]
pub fn place(salt: &str, id: &str) -> u32 {
    let mut hash = Context::new(&SHA256);
    for part in [salt.as_bytes(), &[0], id.as_bytes()] {
        hash.update(part);
    }
    let first: [u8; SHORT] = std::array::from_fn({
        let hash = hash.finish();
        move |index| hash.as_ref()[index]
    });
    u32::try_from(u64::from_be_bytes(first) % u64::from(WHOLE)).unwrap_or_default()
}

/// Changes with every change of what is told.
fn version(routes: &[Route]) -> String {
    let mut bytes = Vec::new();
    for route in routes {
        bytes.extend(route.encode_length_delimited_to_vec());
    }
    short(&bytes)
}

/// The same for every run of a client. Its unit is no part of it: that of a program in a session has
/// another name each time.
fn id(client: &Client<'_>) -> String {
    let uid = client.uid().map(|uid| uid.to_string()).unwrap_or_default();
    short([&uid, client.token(), client.executable(), client.name()].join("\0").as_bytes())
}

fn short(bytes: &[u8]) -> String {
    let hash = digest(&SHA256, bytes);
    hash.as_ref()[..SHORT].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn the_choice_is_that_of_the_examples() {
        let examples = include_str!("../../../tests/data/canary.txt");
        let examples = examples.lines().filter(|line| !line.starts_with('#'));
        let mut count = 0;
        for line in examples {
            let parts: Vec<_> = line.split('\t').collect();
            let [salt, id, expected] = parts[..] else { panic!("{line:?} has no three parts") };
            assert_eq!(place(salt, id).to_string(), expected, "{line:?}");
            count += 1;
        }
        assert!(count >= 10, "only {count} examples");
    }
}
