//! The disk the data is on.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use model::size::ByteSize;

use super::{check, fine, trouble};
use crate::api::doctor::{Check, Level};

const AREA: &str = "disk";

/// A database waits for it with every change.
const SLOW: Duration = Duration::from_millis(100);

/// What was found of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Disk {
    kind: i64,
    size: ByteSize,
    free: ByteSize,
    inodes: u64,
    inodes_free: u64,
}

pub(super) fn checks(place: &Path, reserve: ByteSize) -> Vec<Check> {
    let Some(disk) = look(place) else {
        let found = format!("{} cannot be looked at", place.display());
        return vec![trouble(
            check(AREA, "file system", Level::Fail, found),
            "nothing can be kept there",
            "give another data_dir",
        )];
    };
    vec![kind(disk), room(disk, reserve), inodes(disk), sync(try_sync(place))]
}

fn look(place: &Path) -> Option<Disk> {
    let (kind, room) = (rustix::fs::statfs(place).ok()?, rustix::fs::statvfs(place).ok()?);
    let bytes = |blocks: u64| ByteSize(blocks.saturating_mul(room.f_frsize));
    Some(Disk {
        kind: kind.f_type,
        size: bytes(room.f_blocks),
        free: bytes(room.f_bavail),
        inodes: room.f_files,
        inodes_free: room.f_favail,
    })
}

/// By their numbers in statfs(2).
fn name(kind: i64) -> Option<(&'static str, Option<&'static str>)> {
    const MEMORY: &str = "all of it is gone with a reboot";
    const FOREIGN: &str = "it may not map owners nor keep what was synced";
    Some(match kind {
        0xEF53 => ("ext4", None),
        0x5846_5342 => ("xfs", None),
        0x9123_683E => ("btrfs", None),
        0xF2F5_2010 => ("f2fs", None),
        0x2FC1_2FC1 => ("zfs", Some("before ZFS 2.2 it maps no owners")),
        0x0102_1994 => ("tmpfs", Some(MEMORY)),
        0x8584_58F6 => ("ramfs", Some(MEMORY)),
        0x6969 => ("nfs", Some(FOREIGN)),
        0x794C_7630 => ("overlay", Some("layers over layers cannot be mounted everywhere")),
        0x6573_5546 => ("fuse", Some(FOREIGN)),
        _ => return None,
    })
}

fn kind(disk: Disk) -> Check {
    let next = "keep data_dir on ext4, xfs or btrfs";
    match name(disk.kind) {
        Some((name, None)) => fine(AREA, "file system", name),
        Some((name, Some(costs))) => {
            trouble(check(AREA, "file system", Level::Warn, name), costs, next)
        }
        None => {
            let found = format!("unknown (0x{:X})", disk.kind);
            let costs = "nobody tried Wharf on it";
            trouble(check(AREA, "file system", Level::Warn, found), costs, next)
        }
    }
}

fn room(disk: Disk, reserve: ByteSize) -> Check {
    let found = format!("{} of {} free", disk.free, disk.size);
    let next = "see what takes the room: wharf disk";
    if disk.free < reserve {
        let found = format!("{found}, less than the reserve of {reserve}");
        let found = check(AREA, "room", Level::Fail, found);
        return trouble(found, "builds are refused (P203)", next);
    }
    if disk.free.bytes() < reserve.bytes().saturating_mul(2) {
        let found = check(AREA, "room", Level::Warn, found);
        return trouble(found, "soon builds are refused (P203)", next);
    }
    fine(AREA, "room", found)
}

fn inodes(disk: Disk) -> Check {
    if disk.inodes == 0 {
        return fine(AREA, "inodes", "without a bound");
    }
    let found = format!("{} of {} free", disk.inodes_free, disk.inodes);
    if disk.inodes_free < disk.inodes / 20 {
        let found = check(AREA, "inodes", Level::Warn, found);
        return trouble(
            found,
            "soon no file can be made, whatever room is free",
            "fewer releases are kept by keep_releases; wharf disk",
        );
    }
    fine(AREA, "inodes", found)
}

fn try_sync(place: &Path) -> std::io::Result<Duration> {
    let mut file = tempfile::Builder::new().prefix("doctor-").tempfile_in(place)?;
    file.write_all(&[0; 4096])?;
    let since = Instant::now();
    file.as_file().sync_all()?;
    Ok(since.elapsed())
}

fn sync(took: std::io::Result<Duration>) -> Check {
    match took {
        Ok(took) if took < SLOW => {
            fine(AREA, "fsync", format!("{:.1} ms", took.as_secs_f64() * 1000.0))
        }
        Ok(took) => trouble(
            check(AREA, "fsync", Level::Warn, format!("{} ms", took.as_millis())),
            "each change waits that long before it is acknowledged",
            "a faster disk for data_dir, or less that writes beside it",
        ),
        Err(error) => trouble(
            check(AREA, "fsync", Level::Fail, error.to_string()),
            "what is acknowledged is not kept; the daemon does not start",
            "a disk that can be written and synced, for data_dir",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_judged_by_its_kind_its_room_and_its_answer() {
        let mib = ByteSize::mib;
        let disk = |free| Disk { kind: 0xEF53, size: mib(100), free, inodes: 100, inodes_free: 90 };
        let levels =
            |disk, reserve| [kind(disk), room(disk, reserve), inodes(disk)].map(|one| one.level);
        assert_eq!(levels(disk(mib(50)), mib(10)), [Level::Ok; 3]);
        assert_eq!(room(disk(mib(15)), mib(10)).level, Level::Warn);
        assert_eq!(room(disk(mib(9)), mib(10)).level, Level::Fail);
        assert_eq!(kind(Disk { kind: 0x0102_1994, ..disk(mib(50)) }).level, Level::Warn);
        assert_eq!(kind(Disk { kind: 7, ..disk(mib(50)) }).found, "unknown (0x7)");
        assert_eq!(inodes(Disk { inodes_free: 4, ..disk(mib(50)) }).level, Level::Warn);
        assert_eq!(inodes(Disk { inodes: 0, inodes_free: 0, ..disk(mib(50)) }).level, Level::Ok);
        assert_eq!(sync(Ok(Duration::from_millis(2))).found, "2.0 ms");
        assert_eq!(sync(Ok(Duration::from_millis(500))).level, Level::Warn);
        assert_eq!(sync(Err(std::io::Error::other("no"))).level, Level::Fail);
    }

    #[test]
    fn what_is_there_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let all = checks(folder.path(), ByteSize(1));
        assert_eq!(all.len(), 4);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let gone = checks(Path::new("/no/such/place"), ByteSize(1));
        assert_eq!((gone.len(), gone[0].level), (1, Level::Fail));
    }
}
