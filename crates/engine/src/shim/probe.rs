//! Tries whether this machine can give containers users of their own: makes such a user namespace and
//! mounts a root with mapped owners, as every start will, and takes it all away again.

use std::path::Path;

use crate::error::Error;
use crate::process::own_mounts;
use crate::shim::root;
use crate::shim::users::Users;
use crate::spec::{ContainerSpec, RootSpec, UpperSpec, UserRange};
use crate::state::StateFolder;

/// Any range will do; nothing is left that belongs to it.
const RANGE: u32 = 0x7FFF_0000;

pub(crate) fn run(state: &StateFolder, layers: &Path, scratch: &Path) -> Result<(), Error> {
    let range = UserRange::starting_at(RANGE).expect("a fit number");
    let users = Users::make(range)?;
    root::leave_the_hosts_mounts(&own_mounts())?;
    for (name, upper) in
        [("kept", UpperSpec::Keep(scratch.join("upper"))), ("discarded", UpperSpec::Discard)]
    {
        let spec = ContainerSpec {
            root: RootSpec { layers: vec![layers.to_owned()], upper, is_read_only: false },
            ..ContainerSpec::nothing("probe")
        };
        let state = StateFolder::at(state.join(name));
        root::mount_root(&state, &spec, scratch, Some(&users))?;
        root::unmount(&state);
    }
    Ok(())
}
