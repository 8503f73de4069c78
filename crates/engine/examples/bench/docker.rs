//! Docker, through its own command line.

use std::net::TcpStream;
use std::path::PathBuf;

use crate::Result;
use crate::network::PORT;
use crate::side::{Side, call};

pub(crate) struct Docker {
    host: String,
    image: String,
}

impl Docker {
    pub(crate) fn new(host: &str, image: &str) -> Self {
        Self { host: host.to_owned(), image: image.to_owned() }
    }

    fn call(&self, words: &[&str]) -> Result<String> {
        let host = ["--host", self.host.as_str()];
        call("/usr/bin/docker", &[&host, words].concat())
    }

    fn run(&self, network: &str, id: &str, script: &str) -> Result<u32> {
        let limits = ["--network", network, "--memory", "256m", "--pids-limit", "64"];
        let walls = ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", "1000"];
        let what = ["--name", id, &self.image, "/bin/sh", "-c", script];
        self.call(&[&["run", "--detach"][..], &limits, &walls, &what].concat())?;
        Ok(self.said("{{.State.Pid}}", id)?.parse()?)
    }

    fn said(&self, what: &str, id: &str) -> Result<String> {
        Ok(self.call(&["inspect", "--format", what, id])?.trim().to_owned())
    }
}

impl Side for Docker {
    fn name(&self) -> &str {
        "Docker"
    }

    fn start(&self, id: &str, script: &str) -> Result<u32> {
        self.run("none", id, script)
    }

    fn start_with_network(&self, id: &str, script: &str) -> Result<Option<u32>> {
        self.run("bridge", id, script).map(Some)
    }

    /// Over its bridge, to its own address: the shortest way there is.
    fn reach(&self, id: &str) -> Result<TcpStream> {
        let address = self.said("{{.NetworkSettings.IPAddress}}", id)?;
        Ok(TcpStream::connect((address.as_str(), PORT))?)
    }

    fn exec(&mut self, id: &str) -> Result<()> {
        self.call(&["exec", id, "/bin/true"]).map(drop)
    }

    fn terminate(&mut self, id: &str) -> Result<()> {
        self.call(&["kill", "--signal", "TERM", id]).map(drop)
    }

    fn remove(&mut self, id: &str) -> Result<()> {
        self.call(&["rm", "--force", id]).map(drop)
    }

    fn group(&self) -> &str {
        "wharf-bench-docker"
    }

    fn carriers(&self) -> Vec<PathBuf> {
        vec!["/usr/bin/containerd-shim-runc-v2".into()]
    }
}
