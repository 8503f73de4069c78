//! `disk`.

use jiff::Timestamp;
use model::size::ByteSize;

use super::Failure;
use super::session::{Json, Session};
use super::table::{ago, table};
use crate::api::disk::{AppDisk, Disk};

/// Show what takes the room on the disk, and what a collect would free
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf disk\n  wharf disk -a shop\n  wharf disk --json\n\n`own` is what would be free without the app: layers that only its images are\nmade of, build cache, git, logs, and what its processes wrote. Its volumes come\non top: `wharf volumes`."
)]
pub(super) struct DiskArgs {
    #[command(flatten)]
    json: Json,
}

pub(super) async fn show(session: &Session, args: &DiskArgs) -> Result<(), Failure> {
    let Some(mut disk) = session.read::<Disk>("/wharf/disk", args.json).await? else {
        return Ok(());
    };
    if let Some(app) = session.named(None) {
        // Says what is wrong with a name nobody has.
        let app: crate::api::app::App = session.client.get(&format!("/apps/{app}")).await?;
        disk.apps.retain(|one| one.name == app.name);
    }
    lines(&disk, Timestamp::now()).iter().for_each(|line| session.printer.data(line));
    Ok(())
}

fn lines(disk: &Disk, now: Timestamp) -> Vec<String> {
    let Disk { size, free, used, layers, surplus, .. } = disk;
    let mut lines = vec![format!("=== {}: {used}; {free} of {size} free", disk.data_dir)];
    if now.as_second() - disk.at.0.as_second() > 5 {
        lines.push(format!("As it was {}.", ago(disk.at.0, now)));
    }
    let mut parts: Vec<(&String, &ByteSize)> = disk.parts.iter().collect();
    parts.sort_by(|one, other| other.1.cmp(one.1).then(one.0.cmp(other.0)));
    let row = |(name, size): (&String, &ByteSize)| {
        let note = if name == "layers" {
            format!(
                "{}: {} shared, {} one app's, {} steps'",
                layers.count, layers.shared, layers.single, layers.steps
            )
        } else {
            meaning(name).to_owned()
        };
        vec![name.clone(), size.to_string(), note]
    };
    lines.extend(table(&parts.into_iter().map(row).collect::<Vec<_>>()));
    lines.push(String::new());
    if disk.apps.is_empty() {
        lines.push("There are no apps.".to_owned());
    } else {
        let head = ["app", "own", "layers", "shared", "cache", "git", "logs", "written"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(disk.apps.iter().map(row_of));
        lines.extend(table(&rows));
    }
    lines.push(String::new());
    let freed = ByteSize(surplus.layers_size.bytes() + surplus.caches_size.bytes());
    lines.push(match (surplus.images, surplus.layers, freed) {
        (0, 0, ByteSize(0)) => "A collect would free nothing.".to_owned(),
        (images, layers, freed) => format!(
            "A collect would free {freed}: images {images}, layers {layers}, caches {}.",
            surplus.caches_size
        ),
    });
    lines
}

fn meaning(part: &str) -> &'static str {
    match part {
        "caches" => "what builds keep between builds, by app",
        "database" => "apps, releases, config vars, events",
        "git" => "what was pushed, by app",
        "images" => "what layers and commands images are made of",
        "keys" => "which build step made which layer",
        "logs" => "of apps and of requests",
        "proxy" => "the last routes and certificates",
        "published" => "files the edge serves, beside the layers",
        "scratch" => "what replicas wrote, thrown away with them",
        "tmp" => "builds under way",
        "volumes" => "what apps keep",
        _ => "",
    }
}

fn row_of(app: &AppDisk) -> Vec<String> {
    let sizes =
        [app.own, app.own_layers, app.shared_layers, app.cache, app.git, app.logs, app.written];
    std::iter::once(app.name.to_string()).chain(sizes.iter().map(ToString::to_string)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_told_by_kind_and_by_app_on_a_screen() {
        let mib = |count: u64| count << 20;
        let disk: Disk = serde_json::from_value(serde_json::json!({
            "data_dir": "/var/lib/wharf", "size": mib(65536), "free": mib(43008), "used": mib(301),
            "parts": {"layers": mib(280), "git": mib(8), "logs": mib(12), "database": mib(1)},
            "layers": {"count": 9, "shared": mib(178), "single": mib(80), "steps": mib(22)},
            "surplus": {"images": 2, "layers": 3, "layers_size": mib(20), "caches_size": mib(4)},
            "apps": [{"name": "shop", "own": mib(100), "images": 3, "own_layers": mib(80),
                      "shared_layers": mib(178), "cache": 0, "git": mib(8), "logs": mib(12),
                      "written": 4096}],
            "at": "2026-11-21T09:59:00Z", "took_ms": 12,
        }))
        .unwrap();
        let lines = lines(&disk, "2026-11-21T10:00:00Z".parse().unwrap());
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:?}");
        insta::assert_snapshot!(lines.join("\n"), @r"
        === /var/lib/wharf: 301 MiB; 42 GiB of 64 GiB free
        As it was 1m ago.
        layers    280 MiB  9: 178 MiB shared, 80 MiB one app's, 22 MiB steps'
        logs      12 MiB   of apps and of requests
        git       8 MiB    what was pushed, by app
        database  1 MiB    apps, releases, config vars, events

        app   own      layers  shared   cache  git    logs    written
        shop  100 MiB  80 MiB  178 MiB  0 B    8 MiB  12 MiB  4 KiB

        A collect would free 24 MiB: images 2, layers 3, caches 4 MiB.
        ");
    }
}
