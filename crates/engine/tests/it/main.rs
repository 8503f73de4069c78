//! The engine on a real kernel: root, real containers, nothing simulated.

#[cfg(test)]
mod bench;

#[cfg(test)]
mod adoption;
#[cfg(test)]
mod copy;
#[cfg(test)]
mod docker_run;
#[cfg(test)]
mod ending;
#[cfg(test)]
mod exec;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod inside;
#[cfg(test)]
mod inspect;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod links;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod making;
#[cfg(test)]
mod oci;
#[cfg(test)]
mod outbound;
#[cfg(test)]
mod reach;
#[cfg(test)]
mod runc;
#[cfg(test)]
mod sleep;
#[cfg(test)]
mod starting;
#[cfg(test)]
mod stash;
#[cfg(test)]
mod survival;
#[cfg(test)]
mod taken_over;
#[cfg(test)]
mod times;
#[cfg(test)]
mod users;
