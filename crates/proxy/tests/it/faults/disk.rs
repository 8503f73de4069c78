//! A full disk: requests are answered, what was kept stays whole, log lines that found no room are
//! counted, and with room again all is as before.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::CloneFlags;
use rustix::process::Signal;
use tempfile::TempDir;

use super::{alone, one_each};
use crate::app::App;
use crate::edge::{Edge, app_id, until};
use crate::traffic::Traffic;
use crate::upgrade::tell;

const APPS: [&str; 2] = ["shop", "blog"];

/// A small disk, which is there for this test alone.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new() -> Self {
        let (none, place) = (None::<&str>, tempfile::tempdir().unwrap());
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let (kind, size) = (Some("tmpfs"), Some("size=256k"));
        mount(Some("small"), place.path(), kind, MsFlags::empty(), size).unwrap();
        Self(place)
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("folder")
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut ballast = fs::File::create(self.0.path().join("ballast")).unwrap();
        let error = loop {
            if let Err(error) = ballast.write_all(&[7; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }

    fn free(&self) {
        fs::remove_file(self.0.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It goes with its namespace, in any case.
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

/// Another worker, which knows what the disk tells it.
async fn next_worker(edge: &Edge) -> u64 {
    let old = edge.status().await;
    tell(old.holder_pid.unwrap(), Signal::HUP);
    let next = until("the next worker", async || {
        edge.client.status().await.ok().filter(|status| status.pid != old.pid)
    });
    next.await.version
}

#[test]
fn a_full_disk_under_the_kept_table_costs_no_request_and_no_table() {
    alone(CloneFlags::CLONE_NEWNS, async || {
        let disk = SmallDisk::new();
        let edge = Edge::tuned(|config| config.state_dir = disk.folder()).await;
        let mut apps = Vec::new();
        for name in ["shop", "blog", "shop-2", "blog-2"] {
            apps.push(App::start(name).await);
        }
        edge.apply(one_each(1, &APPS, &apps)).await;
        let traffic = Traffic::start(edge.address, 200, &APPS);
        traffic.more(50).await;
        disk.fill();
        for _ in 0..2 {
            let refused = edge.client.apply(&one_each(2, &APPS, &apps[2..])).await;
            let said = format!("{:?}", refused.unwrap_err());
            assert!(said.contains("No space left on device"), "{said}");
            traffic.more(50).await;
            // What was kept before is whole.
            assert_eq!(next_worker(&edge).await, 1);
            traffic.more(50).await;
        }
        let second = one_each(2, &APPS, &apps[2..]);
        edge.client.apply(&second).await.unwrap_err();
        disk.free();
        // It is served already; said to be applied, it must be kept as well.
        edge.apply(second).await;
        assert_eq!(next_worker(&edge).await, 2);
        edge.apply(one_each(3, &APPS, &apps)).await;
        assert_eq!(next_worker(&edge).await, 3);
        traffic.more(50).await;
        traffic.stop_with(apps.iter().map(App::book)).await.assert_clean();
    });
}

#[test]
fn log_lines_that_find_no_room_are_counted_and_leave_no_half_ones() {
    alone(CloneFlags::CLONE_NEWNS, async || {
        let disk = SmallDisk::new();
        let mut edge = Edge::tuned(|config| config.log_dir = disk.folder()).await;
        let apps = super::shops(&edge, 1, APPS).await;
        let traffic = Traffic::start(edge.address, 300, &APPS);
        traffic.more(50).await;
        disk.fill();
        let lost = async || edge.status().await.log_lines_lost;
        until("a line that is lost", async || (lost().await > 20).then_some(())).await;
        traffic.more(50).await;
        disk.free();
        traffic.more(100).await;
        let told = edge.log_line(None, "code=L10").await;
        assert!(told.contains("request log lines were dropped"), "{told}");
        let books = traffic.stop(&apps.each_ref()).await;
        books.assert_clean();
        let paths = [1, 2].map(|number| edge.log(Some(app_id(number))));
        let log = |number: usize| fs::read_to_string(&paths[number - 1]).unwrap_or_default();
        // Every line is written or counted, and each written one is whole.
        let lost = usize::try_from(edge.status().await.log_lines_lost).unwrap();
        edge.stop();
        let written = log(1).lines().count() + log(2).lines().count();
        assert_eq!((written, lost), (books.answered - lost, lost), "written, lost");
        for line in [log(1), log(2)].concat().lines() {
            let ids = line.matches("request_id=").count();
            assert!(ids == 1 && line.contains(" at="), "half a line: {line}");
        }
    });
}
