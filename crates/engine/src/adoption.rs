//! Containers whose shim was killed: another one takes them over. What it does is in `shim::adopt`.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use crate::attach::{Attach, Outcome, send_request};
use crate::engine::{Engine, receive_outcome};
use crate::error::Error;
use crate::process::spawn_role;

/// So many shims are started for a container, should they be killed, too, before it is theirs.
const MOST_TRIES: u32 = 5;

impl Engine {
    /// Gives a container whose shim was killed another one, which goes on where that one was: it runs as
    /// before, or has its exit record. Fine if somebody was quicker. An error if there is nothing that a
    /// shim could go on with, as where it was made by an older program; the container is left as it is.
    pub fn adopt(&self, id: &str) -> Result<(), Error> {
        let mut tries = 1;
        loop {
            match self.try_to_adopt(id) {
                Err(error) if error.is_cut_off() && tries < MOST_TRIES => tries += 1,
                tried => return tried,
            }
        }
    }

    fn try_to_adopt(&self, id: &str) -> Result<(), Error> {
        let state = self.state(id);
        let path = state.join("shim.log");
        let log = File::options().append(true).create(true).open(&path);
        let log = log.map_err(Error::file("open", &path))?;
        let doing = "start another shim";
        let (mut ours, theirs) = UnixStream::pair().map_err(Error::kernel(doing))?;
        let args = ["shim".as_ref(), "adopt".as_ref(), state.path.as_os_str()];
        let mut shim = spawn_role(self.program(), &args, theirs.into(), Stdio::from(log))
            .map_err(Error::kernel(doing))?;
        let outcome = send_request(&mut ours, &Attach::Log, self.shim_request(id))
            .map_err(Error::kernel(doing))
            .and_then(|()| receive_outcome(&mut ours));
        match outcome {
            // Nothing is left for it to do. It is not to be kept in the place of the one that has it.
            Ok(Outcome::Started { pid: 0 }) => {
                let _ = shim.wait();
                Ok(())
            }
            Ok(Outcome::Started { .. }) => {
                self.shims.keep(id, shim);
                Ok(())
            }
            Ok(Outcome::Failed { why }) => {
                let _ = shim.wait();
                Err(Error::NotAdopted { id: id.to_owned(), why })
            }
            Err(error) => {
                let _ = shim.kill();
                let _ = shim.wait();
                Err(error)
            }
        }
    }
}
