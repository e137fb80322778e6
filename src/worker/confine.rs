//! What a worker gives up before it does anything. What cannot be given up ends it: a worker with more
//! rights than its caller must not be.

use caps::CapSet;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};

use crate::error::{Error, ErrorKind};

/// The last descriptor that a worker is given; its socket.
const LAST_DESCRIPTOR: i32 = 3;

/// Gives up every capability, closes what it was not given, forbids to gain rights, dies with its parent, leaves no core files, makes
/// files private and stands in the root folder.
///
/// # Errors
/// `SandboxUnavailable` if the kernel refuses one of these.
pub(super) fn confine() -> Result<(), Error> {
    let refused = |what: &str, why: &dyn std::fmt::Display| {
        Error::new(ErrorKind::SandboxUnavailable, format!("{what}: {why}"))
    };
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| refused("the worker cannot be bound to op-dbus's end", &error))?;
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set)
            .map_err(|error| refused("capabilities cannot be dropped", &error))?;
    }
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| refused("gaining rights cannot be forbidden", &error))?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
        .map_err(|error| refused("core files cannot be forbidden", &error))?;
    close_others().map_err(|error| refused("descriptors cannot be closed", &error))?;
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    std::env::set_current_dir("/").map_err(|error| refused("the folder / cannot be used", &error))
}

/// Closes what the processes before this one have left open.
fn close_others() -> std::io::Result<()> {
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > LAST_DESCRIPTOR)
        .collect();
    for descriptor in open {
        // The folder's own is closed already.
        nix::unistd::close(descriptor).ok();
    }
    Ok(())
}
