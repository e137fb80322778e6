//! Moving clients from D-Bus to gRPC: what the service knows of who calls what over which way. It makes
//! no call and permits none.

mod identity;
pub mod ledger;

pub use identity::identity;
pub use ledger::Ledger;

/// How the move to gRPC is followed (`[migration]`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The bounds of the ledger.
    pub ledger: ledger::Config,
}
