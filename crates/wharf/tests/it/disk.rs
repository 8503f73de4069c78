//! What takes the room: by kind, by app, and what a collect would free.

use crate::support::host::Host;
use crate::support::require::require;

#[test]
fn the_room_each_app_takes_is_told_and_what_is_shared_once() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    for name in ["shop", "blog"] {
        let repo = host.app(name);
        if name == "shop" {
            // Does not compress away.
            let noise: Vec<u8> =
                (0..3_u32 << 18).flat_map(|n| n.wrapping_mul(0x9E37_79B9).to_le_bytes()).collect();
            std::fs::write(repo.folder.join("noise.bin"), noise).unwrap();
        }
        repo.write("note.txt", name);
        repo.commit("its own");
        host.push_well(&repo);
    }
    host.wharf(&[
        "exec",
        "-a",
        "shop",
        "--no-tty",
        "--",
        "dd",
        "if=/dev/zero",
        "of=/tmp/big",
        "bs=1M",
        "count=5",
    ]);
    let disk = host.json(&["disk"]);
    let mib = |value: &serde_json::Value| value.as_u64().unwrap() >> 20;
    let apps = disk["apps"].as_array().unwrap();
    let names: Vec<_> = apps.iter().map(|app| app["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["shop", "blog"], "{disk}");
    let (shop, blog) = (&apps[0], &apps[1]);
    assert!(mib(&shop["own_layers"]) >= 3 && mib(&blog["own_layers"]) == 0, "{disk}");
    assert!(mib(&shop["git"]) >= 2 && mib(&blog["git"]) == 0, "{disk}");
    assert!(mib(&shop["written"]) >= 5 && mib(&blog["written"]) == 0, "{disk}");
    // Both stand on the same base.
    assert_eq!(shop["shared_layers"], blog["shared_layers"]);
    assert!(mib(&shop["shared_layers"]) > 20, "{disk}");
    let parts = disk["parts"].as_object().unwrap();
    let layers = &disk["layers"];
    let sum = ["shared", "single", "steps"]
        .map(|kind| layers[kind].as_u64().unwrap())
        .iter()
        .sum::<u64>();
    assert_eq!(parts["layers"].as_u64(), Some(sum), "{disk}");
    for part in ["database", "git", "logs", "scratch"] {
        assert!(parts[part].as_u64() > Some(0), "{part}: {disk}");
    }
    let shown = host.wharf(&["disk", "-a", "blog"]);
    assert!(shown.contains("blog") && !shown.contains("shop"), "{shown}");
    assert!(shown.contains("A collect would free nothing."), "{shown}");
    let said = host.wharf_fails(&["disk", "-a", "nobody"]);
    assert!(said.contains("P004"), "{said}");
}
