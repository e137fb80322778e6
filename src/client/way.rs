//! The ways that a call can take to the service, by their names. Which one it takes is said elsewhere.

use crate::proto::opdbus::v1;

/// A way to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// The interfaces of op-dbus on D-Bus.
    Dbus,
    /// The older interface on D-Bus, `org.dbusmcp.Agent`.
    Legacy,
    /// gRPC.
    Grpc,
}

impl Way {
    /// Every way, in the order of [`Way::index`].
    pub const ALL: [Self; 3] = [Self::Dbus, Self::Legacy, Self::Grpc];

    /// The name in `OP_DBUS_VIA`, in `[client]` and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dbus => "dbus",
            Self::Legacy => "legacy",
            Self::Grpc => "grpc",
        }
    }

    /// The position in [`Way::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The same as the service is told it.
    pub(super) const fn told(self) -> v1::Way {
        match self {
            Self::Dbus => v1::Way::Dbus,
            Self::Legacy => v1::Way::Legacy,
            Self::Grpc => v1::Way::Grpc,
        }
    }
}
