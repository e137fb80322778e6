//! The stages of a client's calls as the service tells them, and what each stage means for a call. How
//! they are asked for is `follow.rs`.

use super::canary;
use crate::client::Way;
use crate::contract::Idempotency;
use crate::proto::opdbus::v1::{GetRoutesResponse, Route, Stage};

/// The stages that hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes(pub(crate) GetRoutesResponse);

/// What the choice depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) agent: &'a str,
    /// As `Recall`.
    pub(crate) operation: &'a str,
    pub(crate) idempotency: Idempotency,
    pub(crate) session: Option<&'a str>,
}

/// How a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The way it takes.
    pub(crate) way: Way,
    /// The way that it may fall back on, where that is safe.
    pub(crate) fallback: Option<Way>,
    /// True if it is made over gRPC as well and compared.
    pub(crate) shadow: bool,
}

impl Asked<'_> {
    /// An operation that no route names.
    pub(crate) const ANYTHING: Self =
        Self { agent: "", operation: "", idempotency: Idempotency::Unknown, session: None };
}

impl Plan {
    /// One way and no other.
    pub(crate) const fn only(way: Way) -> Self {
        Self { way, fallback: None, shadow: false }
    }
}

impl Routes {
    /// How a call goes; `old` is the client's way over D-Bus. `None`: no stage is known for it.
    pub(crate) fn plan(&self, asked: Asked<'_>, old: Way) -> Option<Plan> {
        let route = self.0.routes.iter().find(|route| names(route, asked))?;
        let grpc = Plan { way: Way::Grpc, fallback: Some(old), shadow: false };
        let plan = Plan::only(old);
        Some(match route.stage() {
            // A stage that this build does not know comes from a newer service; D-Bus serves at each but
            // the last, and then says where to go.
            Stage::Unspecified | Stage::Dbus => plan,
            Stage::Shadow => {
                Plan { shadow: asked.idempotency == Idempotency::NoSideEffects, ..plan }
            }
            Stage::Canary => {
                let id = asked.session.unwrap_or(&self.0.client);
                match canary::place(&route.salt, id) < route.share_per_10000 {
                    true => grpc,
                    false => plan,
                }
            }
            Stage::Grpc => grpc,
            Stage::Final => Plan { fallback: None, ..grpc },
        })
    }
}

/// True if the route is about the operation.
fn names(route: &Route, asked: Asked<'_>) -> bool {
    let is_it = |name: &String| name.split_once('.') == Some((asked.agent, asked.operation));
    (route.agents.is_empty() || route.agents.iter().any(|agent| agent == asked.agent))
        && (route.operations.is_empty() || route.operations.iter().any(is_it))
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Asked<'_> = Asked {
        agent: "memory",
        operation: "Recall",
        idempotency: Idempotency::NoSideEffects,
        session: None,
    };
    const WRITE: Asked<'_> =
        Asked { operation: "Increment", idempotency: Idempotency::Unknown, ..READ };

    fn routes(routes: Vec<Route>) -> Routes {
        Routes(GetRoutesResponse { routes, version: "1".into(), client: "desk".into() })
    }

    fn at(stage: Stage) -> Routes {
        routes(vec![Route { stage: stage.into(), ..Route::default() }])
    }

    #[test]
    fn each_stage_is_its_way() {
        let dbus = Plan::only(Way::Dbus);
        let grpc = Plan { way: Way::Grpc, fallback: Some(Way::Dbus), shadow: false };
        for (stage, plan) in [
            (Stage::Unspecified, dbus),
            (Stage::Dbus, dbus),
            (Stage::Shadow, Plan { shadow: true, ..dbus }),
            (Stage::Canary, dbus),
            (Stage::Grpc, grpc),
            (Stage::Final, Plan { fallback: None, ..grpc }),
        ] {
            assert_eq!(at(stage).plan(READ, Way::Dbus), Some(plan), "{stage:?}");
        }
        assert_eq!(at(Stage::Shadow).plan(WRITE, Way::Dbus), Some(dbus));
        assert_eq!(at(Stage::Grpc).plan(READ, Way::Legacy).unwrap().fallback, Some(Way::Legacy));
        assert_eq!(Routes::default().plan(READ, Way::Dbus), None);
    }

    #[test]
    fn the_first_route_that_names_an_operation_holds() {
        let route = |agents: &[&str], operations: &[&str], stage: Stage| Route {
            agents: agents.iter().map(|&agent| agent.into()).collect(),
            operations: operations.iter().map(|&operation| operation.into()).collect(),
            stage: stage.into(),
            ..Route::default()
        };
        let routes = routes(vec![
            route(&["memory"], &["memory.Increment"], Stage::Final),
            route(&["memory"], &[], Stage::Grpc),
            route(&[], &[], Stage::Dbus),
        ]);
        let plan = |asked| routes.plan(asked, Way::Dbus).unwrap();
        assert_eq!((plan(WRITE).way, plan(WRITE).fallback), (Way::Grpc, None));
        assert_eq!((plan(READ).way, plan(READ).fallback), (Way::Grpc, Some(Way::Dbus)));
        assert_eq!(plan(Asked { agent: "probe", ..WRITE }).way, Way::Dbus);
    }

    #[test]
    fn a_canary_goes_by_session_or_else_by_client() {
        let canary = |share| {
            let stage = Stage::Canary.into();
            let salt = "default".into();
            routes(vec![Route { stage, salt, share_per_10000: share, ..Route::default() }])
        };
        let in_session = |id| Asked { session: Some(id), ..WRITE };
        // tests/data/canary.txt: s-3 is at 4, s-2 at 6739.
        assert_eq!(canary(5).plan(in_session("s-3"), Way::Dbus).unwrap().way, Way::Grpc);
        assert_eq!(canary(4).plan(in_session("s-3"), Way::Dbus).unwrap().way, Way::Dbus);
        assert_eq!(canary(5).plan(in_session("s-2"), Way::Dbus).unwrap().way, Way::Dbus);
        let place = canary::place("default", "desk");
        assert_eq!(canary(place + 1).plan(WRITE, Way::Dbus).unwrap().way, Way::Grpc);
        assert_eq!(canary(place).plan(WRITE, Way::Dbus).unwrap().way, Way::Dbus);
    }
}
