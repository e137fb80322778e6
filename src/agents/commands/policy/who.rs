//! The user that the worker is, as rules name users and groups.

use std::fmt;
use std::sync::LazyLock;

use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgroups};

/// The user and his groups.
pub(super) struct Who {
    uid: Uid,
    gids: Vec<Gid>,
}

impl Who {
    /// The one that this process is, which a worker stays for its life. Asking for groups also opens a file.
    pub(super) fn here() -> &'static Self {
        static HERE: LazyLock<Who> = LazyLock::new(|| {
            let mut gids = getgroups().unwrap_or_default();
            gids.push(getegid());
            Who { uid: geteuid(), gids }
        });
        &HERE
    }

    /// Whether the user is the one of this name or number; `None` if there is no such user.
    pub(super) fn is(&self, name: &str) -> Option<bool> {
        let uid = match name.parse() {
            Ok(number) => Uid::from_raw(number),
            Err(_) => User::from_name(name).ok().flatten()?.uid,
        };
        Some(uid == self.uid)
    }

    /// Whether the user is in the group of this name or number; `None` if there is no such group.
    pub(super) fn is_in(&self, name: &str) -> Option<bool> {
        let gid = match name.parse() {
            Ok(number) => Gid::from_raw(number),
            Err(_) => Group::from_name(name).ok().flatten()?.gid,
        };
        Some(self.gids.contains(&gid))
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match User::from_uid(self.uid).ok().flatten() {
            Some(user) => write!(f, "{} (uid {})", user.name, self.uid),
            None => write!(f, "uid {}", self.uid),
        }
    }
}
