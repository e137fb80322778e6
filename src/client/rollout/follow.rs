//! Follows the stages of a client's calls: by `WatchRoutes` over gRPC, and where that cannot be had by
//! asking again over D-Bus. A service that does not know them, or none, changes nothing of what is known.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use prost::Message as _;
use tokio::sync::watch;

use super::{GET_ROUTES, Identity, OWN_CALL, Routes, WATCH_ROUTES, kept};
use crate::client::call::{Requests, StreamCall};
use crate::client::retry::{Again, Verdict};
use crate::client::ways::{Ways, read};
use crate::client::{CallOptions, Error, Failure, Way};
use crate::error::ErrorKind;
use crate::proto::opdbus::v1::{
    GetRoutesRequest, GetRoutesResponse, WatchRoutesRequest, WatchRoutesResponse,
};

/// How long until the stages are asked for again where they cannot be watched: so short that a change
/// holds within a second.
const ASK_EVERY: Duration = Duration::from_millis(800);

/// The same where the service does not know them.
const UNKNOWN_EVERY: Duration = Duration::from_secs(30);

type Known = watch::Sender<Option<Arc<Routes>>>;

/// Follows the stages for ever.
pub(super) async fn follow(ways: Ways, identity: Identity, known: Known) {
    if let Some(path) = &identity.kept
        && let Some(routes) = kept::read(path).await
    {
        known.send_replace(Some(Arc::new(routes)));
    }
    loop {
        let over_grpc = watch_over_grpc(&ways, &identity, &known).await;
        let over_dbus = match over_grpc {
            // The stream has ended, as it does when the service stops.
            Ok(()) => Ok(()),
            Err(_) => ask_over_dbus(&ways, &identity, &known).await,
        };
        let is_unknown = over_dbus
            .as_ref()
            .is_err_and(|error| matches!(Verdict::on(error).again, Again::OtherWay | Again::Same));
        tokio::time::sleep(if is_unknown { UNKNOWN_EVERY } else { ASK_EVERY }).await;
    }
}

/// Takes in each change until the stream ends.
async fn watch_over_grpc(ways: &Ways, identity: &Identity, known: &Known) -> Result<(), Error> {
    let version = known.borrow().as_ref().map(|known| known.0.version.clone());
    let request =
        WatchRoutesRequest { name: identity.name.clone(), version: version.unwrap_or_default() };
    let call = StreamCall {
        rpc: Cow::Borrowed(&WATCH_ROUTES),
        requests: Requests::One(request.encode_to_vec().into()),
        options: CallOptions::default(),
    };
    let mut changes = ways.over(Way::Grpc)?.stream(call).await?;
    while let Some(change) = changes.next().await {
        let change: WatchRoutesResponse = read(change?)?;
        if let Some(routes) = change.routes {
            take(routes, identity.kept.as_deref(), known).await;
        }
    }
    Ok(())
}

/// Asks once.
async fn ask_over_dbus(ways: &Ways, identity: &Identity, known: &Known) -> Result<(), Error> {
    if identity.old == Way::Legacy && !ways.has(Way::Dbus) {
        let text = "the older interface does not tell stages";
        return Err(Failure::new(ErrorKind::UnknownOperation, text).into());
    }
    let request = GetRoutesRequest { name: identity.name.clone() };
    let options = CallOptions { timeout: Some(OWN_CALL), ..CallOptions::default() };
    let routes: GetRoutesResponse = ways.ask(Way::Dbus, &GET_ROUTES, &request, options).await?;
    let is_known = known.borrow().as_ref().is_some_and(|known| known.0 == routes);
    if !is_known {
        take(routes, identity.kept.as_deref(), known).await;
    }
    Ok(())
}

/// From now on these stages hold.
async fn take(routes: GetRoutesResponse, kept: Option<&Path>, known: &Known) {
    let routes = Arc::new(Routes(routes));
    known.send_replace(Some(Arc::clone(&routes)));
    if let Some(path) = kept {
        // The calls go by what is known; that it could not be kept shows at the next start.
        drop(kept::write(path, &routes).await);
    }
}
