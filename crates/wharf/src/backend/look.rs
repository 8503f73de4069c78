//! Looking until something is seen: what cannot be looked at is not gone. What has lost its shim is given
//! another one first.

use std::time::Duration;

use engine::Engine;
use engine::error::Error;
use engine::spec::ContainerState;

use super::error::BackendError;
use super::local::Observed;

/// The first wait after a look that failed, and the longest.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));

/// Looks until something is seen. A look that fails (no descriptors left, a disk that does not answer)
/// says nothing about what was looked at: least of all that it has ended.
pub(super) async fn until_seen<F>(what: &str, look: impl Fn() -> F) -> Observed
where
    F: Future<Output = Result<Observed, BackendError>>,
{
    let (mut wait, longest) = LOOK_AGAIN;
    loop {
        match look().await {
            Ok(seen) => return seen,
            Err(error) => {
                let again_in = format!("{} ms", wait.as_millis());
                tracing::error!(
                    replica = what,
                    error = error.for_people(),
                    again_in,
                    "cannot look at a replica; it is left alone"
                );
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(longest);
    }
}

/// A container, in the hands of a shim if it can have one.
pub(super) fn find_in_hands(
    engine: &Engine,
    name: &str,
) -> Result<Option<ContainerState>, BackendError> {
    let found = engine.find(name)?;
    if !found.as_ref().is_some_and(|state| state.can_be_adopted) {
        return Ok(found);
    }
    match refusal(engine.adopt(name))? {
        None => {
            tracing::warn!(replica = name, "its shim was killed; another one has taken it over");
            Ok(engine.find(name)?)
        }
        Some(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(replica = name, error, "its shim was killed, and no other has it");
            Ok(found)
        }
    }
}

/// Why no shim can go on with a container, if that is so. That none could be started now (no processes
/// left, a full disk, a program that is being replaced) is no reason to end an app that runs.
fn refusal(adopted: Result<(), Error>) -> Result<Option<Error>, Error> {
    match adopted {
        Ok(()) => Ok(None),
        Err(error @ Error::NotAdopted { .. }) => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_taken_over_now_is_not_given_up() {
        let source = std::io::Error::from_raw_os_error(11);
        let now = Error::Kernel { doing: "start another shim", source };
        assert!(refusal(Err(now)).is_err());
        let never = Error::NotAdopted { id: "a".into(), why: "nothing is kept".into() };
        assert!(refusal(Err(never)).unwrap().is_some());
        assert!(refusal(Ok(())).unwrap().is_none());
    }

    #[tokio::test]
    async fn a_look_that_fails_is_looked_again_and_is_no_end() {
        let fails = std::cell::Cell::new(3);
        let look = || async {
            if fails.get() == 0 {
                return Ok(Observed::Alive);
            }
            fails.set(fails.get() - 1);
            let source = std::io::Error::from_raw_os_error(24);
            Err(BackendError::Engine(Error::Kernel { doing: "look", source }))
        };
        assert_eq!(until_seen("web.1", look).await, Observed::Alive);
        assert_eq!(fails.get(), 0);
    }
}
