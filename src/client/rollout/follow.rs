//! Follows the stages of a client's calls: by `WatchRoutes` over gRPC, and where that cannot be had by
//! asking again over D-Bus. A service that does not know them, or none, changes nothing of what is known.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::watch;

use super::{Identity, Known, OWN_CALL, Routes, kept};
use crate::client::retry::{Again, Verdict};
use crate::client::ways::Ways;
use crate::client::{Error, MigrationClient, Request, Way};
use crate::proto::opdbus::v1::{GetRoutesRequest, GetRoutesResponse, WatchRoutesRequest};

/// How long until the stages are asked for again where they cannot be watched: so short that a change
/// holds within a second.
const ASK_EVERY: Duration = Duration::from_millis(800);

/// The same where the service does not know them.
const UNKNOWN_EVERY: Duration = Duration::from_secs(30);

/// Follows the stages for ever.
pub(super) async fn follow(ways: Ways, identity: Identity, known: watch::Sender<Known>) {
    if let Some(path) = &identity.kept
        && let Some(routes) = kept::read(path).await
    {
        know(routes, &known);
    }
    loop {
        let over_grpc = watch_over_grpc(&ways, &identity, &known).await;
        let over_dbus = match over_grpc {
            // The stream has ended, as it does when the service stops.
            Ok(()) => Ok(()),
            Err(_) => ask_over_dbus(&ways, &identity, &known).await,
        };
        known.send_if_modified(|known| !std::mem::replace(&mut known.is_asked, true));
        let is_unknown = over_dbus
            .as_ref()
            .is_err_and(|error| matches!(Verdict::on(error).again, Again::OtherWay | Again::Same));
        tokio::time::sleep(if is_unknown { UNKNOWN_EVERY } else { ASK_EVERY }).await;
    }
}

/// Takes in each change until the stream ends.
async fn watch_over_grpc(
    ways: &Ways,
    identity: &Identity,
    known: &watch::Sender<Known>,
) -> Result<(), Error> {
    let version = known.borrow().routes.as_ref().map(|known| known.0.version.clone());
    let request =
        WatchRoutesRequest { name: identity.name.clone(), version: version.unwrap_or_default() };
    let client = MigrationClient::new(ways.client(Way::Grpc)?);
    let mut changes = client.watch_routes(request).await?;
    while let Some(change) = changes.next().await {
        if let Some(routes) = change?.routes {
            take(routes, identity.kept.as_deref(), known).await;
        }
    }
    Ok(())
}

/// Asks once. The older interface does not tell stages.
async fn ask_over_dbus(
    ways: &Ways,
    identity: &Identity,
    known: &watch::Sender<Known>,
) -> Result<(), Error> {
    let request = Request::new(GetRoutesRequest { name: identity.name.clone() });
    let client = MigrationClient::new(ways.client(Way::Dbus)?);
    let routes = client.get_routes(request.timeout(OWN_CALL)).await?;
    let is_known = known.borrow().routes.as_ref().is_some_and(|known| known.0 == routes);
    if !is_known {
        take(routes, identity.kept.as_deref(), known).await;
    }
    Ok(())
}

/// From now on these stages hold.
async fn take(routes: GetRoutesResponse, kept: Option<&Path>, known: &watch::Sender<Known>) {
    let routes = know(Routes(routes), known);
    if let Some(path) = kept {
        // The calls go by what is known; that it could not be kept shows at the next start.
        drop(kept::write(path, &routes).await);
    }
}

fn know(routes: Routes, known: &watch::Sender<Known>) -> Arc<Routes> {
    let routes = Arc::new(routes);
    known.send_modify(|known| known.routes = Some(Arc::clone(&routes)));
    routes
}
