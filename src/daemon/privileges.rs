//! Gives up what the daemon does not need, before it has a second thread. What cannot be given up is
//! logged and does not stop the start.

use caps::{Capability, CapsHashSet};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;

use crate::events;
use crate::process::capabilities::keep_only;

/// What root keeps: making a socket and a state folder that may belong to the service's own user.
const ROOT_KEEPS: [Capability; 3] =
    [Capability::CAP_CHOWN, Capability::CAP_DAC_OVERRIDE, Capability::CAP_FOWNER];

/// Drops capabilities, forbids to gain new ones, makes new files private, and takes the file
/// descriptors that the limits allow.
pub(super) fn restrict() {
    let keep: CapsHashSet =
        if geteuid().is_root() { ROOT_KEEPS.into_iter().collect() } else { CapsHashSet::new() };
    if let Err(error) = keep_only(&keep) {
        tracing::warn!("capabilities cannot be dropped: {error}");
    }
    if let Err(error) = rustix::thread::set_no_new_privs(true) {
        tracing::warn!("gaining privileges cannot be forbidden: {error}");
    }
    if geteuid().is_root() {
        tracing::warn!(
            message_id = events::RUNS_AS_ROOT,
            "op-dbus runs as root without needing to; the installed unit runs it as user op-dbus"
        );
    }
    // Sockets get the mode that the configuration says after they are made, never before.
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    // A connection is a descriptor; the soft limit of 1024 is for programs that use select().
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| match soft < hard {
        true => setrlimit(Resource::RLIMIT_NOFILE, hard, hard),
        false => Ok(()),
    });
    if let Err(error) = raised {
        tracing::warn!("the limit on open files cannot be raised: {error}");
    }
}
