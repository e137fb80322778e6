//! Giving up capabilities of this thread for good. It decides nothing about which to keep.

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};

/// Keeps what is both held and in `keep`.
///
/// # Errors
///
/// The system refuses; a part may have been given up.
pub fn keep_only(keep: &CapsHashSet) -> Result<(), CapsError> {
    let permitted = caps::read(None, CapSet::Permitted)?;
    if permitted.is_empty() {
        return Ok(());
    }
    caps::clear(None, CapSet::Ambient)?;
    // Only who may change the bounding set can; for all others it has no meaning without privileges.
    if permitted.contains(&Capability::CAP_SETPCAP) {
        for capability in caps::read(None, CapSet::Bounding)?.difference(keep) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    caps::clear(None, CapSet::Inheritable)?;
    let kept = &permitted & keep;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}
