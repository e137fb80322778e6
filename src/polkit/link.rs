//! The connection to the bus that polkit is on, calls to polkit, and taking questions back. What is
//! asked is not known here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Mutex;
use zbus::connection::Builder;
use zbus::{Connection, Message};

use super::Bus;

/// polkit's name, and the interface and object that answer.
const NAME: &str = "org.freedesktop.PolicyKit1";
const INTERFACE: &str = "org.freedesktop.PolicyKit1.Authority";
const PATH: &str = "/org/freedesktop/PolicyKit1/Authority";

/// How long taking a question back may take.
const CANCEL_TIME: Duration = Duration::from_secs(5);

/// The connection, made when it is first needed and again when it was lost.
pub(super) struct Link {
    bus: Bus,
    connection: Mutex<Option<Connection>>,
}

impl Link {
    pub(super) fn new(bus: Bus) -> Self {
        Self { bus, connection: Mutex::default() }
    }

    /// The connection.
    ///
    /// # Errors
    /// Why there is none.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn get(&self) -> zbus::Result<Connection> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = kept.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let builder = match &self.bus {
            Bus::System => Builder::system(),
            Bus::Address(address) => Builder::address(address.as_str()),
        };
        let connection = builder.build().await?;
        *kept = Some(connection.clone());
        Ok(connection)
    }
}

/// Calls a method of polkit.
pub(super) async fn call<B>(
    connection: &Connection,
    method: &'static str,
    body: &B,
) -> zbus::Result<Message>
where
    B: serde::Serialize + zbus::DynamicType,
{
    connection.call_method(Some(NAME), PATH, Some(INTERFACE), method, body).await
}

/// A question that polkit has. Dropping it takes it back.
pub(super) struct Asking {
    connection: Connection,
    id: String,
    is_over: bool,
}

/// The questions that were put.
static QUESTIONS: AtomicU64 = AtomicU64::new(0);

impl Asking {
    pub(super) fn begin(connection: &Connection) -> Self {
        let number = QUESTIONS.fetch_add(1, Ordering::Relaxed);
        let id = format!("op-dbus-{number}");
        Self { connection: connection.clone(), id, is_over: false }
    }

    /// What polkit knows the question by.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Notes that there is nothing to take back any more.
    pub(super) fn end(mut self) {
        self.is_over = true;
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        if self.is_over {
            return;
        }
        let (connection, id) = (self.connection.clone(), std::mem::take(&mut self.id));
        runtime.spawn(async move {
            let cancelling = call(&connection, "CancelCheckAuthorization", &id);
            match tokio::time::timeout(CANCEL_TIME, cancelling).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "polkit did not take a question back"),
                Err(_) => tracing::debug!("polkit did not say that it took a question back"),
            }
        });
    }
}
