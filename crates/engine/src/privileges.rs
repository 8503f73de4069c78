//! Giving away what only the host may do.

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::error::Error;
use crate::{sys, walls};

/// Becomes the user for good, with the capabilities the walls leave it, which no program can widen.
pub(crate) fn drop_privileges(uid: u32, gid: u32) -> Result<(), Error> {
    let keep = walls::capabilities_for(uid);
    let doing = "drop privileges";
    rustix::thread::set_no_new_privs(true).map_err(Error::kernel(doing))?;
    for capability in CapabilitySet::all().difference(keep).iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // A capability newer than this kernel.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(Error::kernel(doing)(error)),
        }
    }
    rustix::thread::clear_ambient_capability_set().map_err(Error::kernel(doing))?;
    nix::unistd::setgroups(&[]).map_err(Error::kernel(doing))?;
    sys::become_user(uid, gid).map_err(Error::kernel(doing))?;
    let sets =
        CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).map_err(Error::kernel(doing))?;
    // With the user the kernel set it to `fs.suid_dumpable`, which may let others look into us.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Error::kernel(doing))
}
