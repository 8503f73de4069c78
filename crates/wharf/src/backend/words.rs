//! Words of the house said in the engine's, and the engine's said in ours.

use engine::disk::DiskBound;
use engine::spec::{ExitRecord, Limits};
use model::limits::ProcessLimits;
use model::replica::EndingKind;

/// A process type's limits in the engine's words.
pub(super) fn limits(limits: &ProcessLimits) -> Limits {
    Limits {
        memory: Some(limits.memory),
        memory_soft: limits.memory_soft,
        // 1024 is the kernel's ordinary share.
        cpu_weight: (limits.cpu_weight.saturating_mul(1024) / 100).max(2),
        cpu_millis: limits.cpu_millis,
        pids: limits.pids,
        io_weight: limits.io_weight,
        open_files: limits.open_files.into(),
        disk: Some(DiskBound { size: limits.disk, files: limits.files.into() }),
    }
}

/// What an exit record means.
pub(super) fn ending(record: ExitRecord) -> EndingKind {
    if let Some(error) = record.error {
        return EndingKind::NotStarted(error);
    }
    if record.is_over_disk {
        return EndingKind::OverDisk;
    }
    if record.oom_kills > 0 && record.code != 0 {
        return EndingKind::OutOfMemory;
    }
    EndingKind::Exited(record.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oom_is_oom_only_when_the_app_died_of_it() {
        let record = |code, oom_kills| ExitRecord {
            code,
            signal: None,
            oom_kills,
            is_over_disk: false,
            at_millis: 0,
            error: None,
        };
        assert_eq!(ending(record(137, 1)), EndingKind::OutOfMemory);
        assert_eq!(ending(record(0, 1)), EndingKind::Exited(0));
        assert_eq!(ending(record(3, 0)), EndingKind::Exited(3));
    }
}
