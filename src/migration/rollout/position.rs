//! How far calls have been moved, and the ladder of such positions. Who moves what, and whether he
//! should, is not known here.

use std::fmt;

use crate::proto::opdbus::v1::Stage;

/// All sessions and clients: shares are counted of these.
pub const WHOLE: u32 = 10_000;

/// A position on the way from D-Bus to gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Position {
    /// Calls take D-Bus.
    Dbus,
    /// They take D-Bus, and are compared.
    Shadow,
    /// Of 10,000 sessions or clients, so many take gRPC.
    Canary(u32),
    /// Calls take gRPC, with D-Bus to fall back on.
    Grpc,
    /// Calls take gRPC; D-Bus answers where they went.
    Final,
}

impl Position {
    /// The next position, with these shares at stage `canary`; `None` at the end.
    #[must_use]
    pub fn next(self, steps: &[u32]) -> Option<Self> {
        let canary = |above: u32| steps.iter().copied().find(|share| *share > above);
        match self {
            Self::Dbus => Some(Self::Shadow),
            Self::Shadow => Some(canary(0).map_or(Self::Grpc, Self::Canary)),
            Self::Canary(share) => Some(canary(share).map_or(Self::Grpc, Self::Canary)),
            Self::Grpc => Some(Self::Final),
            Self::Final => None,
        }
    }

    /// The position before; from a canary straight to D-Bus, since a smaller share of a broken way is
    /// broken too. `None` at the beginning.
    #[must_use]
    pub fn back(self, steps: &[u32]) -> Option<Self> {
        match self {
            Self::Dbus => None,
            Self::Shadow | Self::Canary(_) => Some(Self::Dbus),
            Self::Grpc => Some(steps.last().copied().map_or(Self::Dbus, Self::Canary)),
            Self::Final => Some(Self::Grpc),
        }
    }

    /// The position of a stage, with this share if it is `canary`; `None` for the stage that is none.
    #[must_use]
    pub const fn of(stage: Stage, share: u32) -> Option<Self> {
        match stage {
            Stage::Unspecified => None,
            Stage::Dbus => Some(Self::Dbus),
            Stage::Shadow => Some(Self::Shadow),
            Stage::Canary => Some(Self::Canary(share)),
            Stage::Grpc => Some(Self::Grpc),
            Stage::Final => Some(Self::Final),
        }
    }

    /// The stage.
    #[must_use]
    pub const fn stage(self) -> Stage {
        match self {
            Self::Dbus => Stage::Dbus,
            Self::Shadow => Stage::Shadow,
            Self::Canary(_) => Stage::Canary,
            Self::Grpc => Stage::Grpc,
            Self::Final => Stage::Final,
        }
    }

    /// The share at stage `canary`, of 10,000; 0 at the others.
    #[must_use]
    pub const fn share(self) -> u32 {
        match self {
            Self::Canary(share) => share,
            Self::Dbus | Self::Shadow | Self::Grpc | Self::Final => 0,
        }
    }

    /// How many of 10,000 sessions or clients take gRPC.
    #[must_use]
    pub const fn on_grpc(self) -> u32 {
        match self {
            Self::Dbus | Self::Shadow => 0,
            Self::Canary(share) => share,
            Self::Grpc | Self::Final => WHOLE,
        }
    }

    /// The stage's name in the configuration and in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dbus => "dbus",
            Self::Shadow => "shadow",
            Self::Canary(_) => "canary",
            Self::Grpc => "grpc",
            Self::Final => "final",
        }
    }

    /// The position at the stage called `name`, with this share if it is `canary`.
    #[must_use]
    pub fn named(name: &str, share: u32) -> Option<Self> {
        let all = [Self::Dbus, Self::Shadow, Self::Canary(share), Self::Grpc, Self::Final];
        all.into_iter().find(|position| position.name() == name)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Canary(share) => write!(f, "canary {} %", f64::from(*share) / 100.0),
            Self::Dbus | Self::Shadow | Self::Grpc | Self::Final => f.write_str(self.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_goes_up_by_steps_and_down_at_once() {
        let steps = [500, 2500];
        let mut place = Position::Dbus;
        let mut way = vec![place.to_string()];
        while let Some(next) = place.next(&steps) {
            assert!(next > place);
            place = next;
            way.push(place.to_string());
        }
        assert_eq!(way, ["dbus", "shadow", "canary 5 %", "canary 25 %", "grpc", "final"]);
        assert_eq!(place.back(&steps), Some(Position::Grpc));
        assert_eq!(Position::Grpc.back(&steps), Some(Position::Canary(2500)));
        assert_eq!(Position::Canary(2500).back(&steps), Some(Position::Dbus));
        assert_eq!(Position::Dbus.back(&steps), None);
        // A share between two steps goes on to the next one.
        assert_eq!(Position::Canary(1234).next(&steps), Some(Position::Canary(2500)));
    }
}
