//! One layer of busybox and the images that stand on it, as `docker load` takes them.

use std::fs::File;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};
use sha2::Digest;

/// What the bench's root lacks to be an image of the cases.
pub(super) fn furnish(root: &Path) {
    let write = |path: &str, text: &str, mode| {
        std::fs::write(root.join(path), text).unwrap();
        std::fs::set_permissions(root.join(path), PermissionsExt::from_mode(mode)).unwrap();
    };
    write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/app:/bin/sh\n", 0o644);
    write("etc/group", "root:x:0:\nstaff:x:50:app\napp:x:1001:\n", 0o644);
    write("app/tool.sh", "#!/bin/sh\necho tool\n", 0o755);
    write("app/lost.sh", "#!/bin/bash\n", 0o755);
    write("app/plain", "x", 0o644);
    for applet in ["printf", "readlink", "sort"] {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    std::fs::create_dir(root.join("data")).unwrap();
    write("data/seed", "seed\n", 0o644);
    std::fs::create_dir(root.join("target")).unwrap();
    symlink("/target", root.join("link")).unwrap();
}

/// Writes the archive: an image of that root for each config, named `case:<number>`.
pub(super) fn write_archive(archive: &Path, root: &Path, configs: &[Value]) {
    let layer = archive.with_extension("layer");
    let mut tar = tar::Builder::new(File::create(&layer).unwrap());
    tar.follow_symlinks(false);
    tar.append_dir_all(".", root).unwrap();
    tar.into_inner().unwrap();
    let digest = sha2::Sha256::digest(std::fs::read(&layer).unwrap());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();

    let mut tar = tar::Builder::new(File::create(archive).unwrap());
    tar.append_path_with_name(&layer, "layer.tar").unwrap();
    let mut put = |name: &str, value: &Value| {
        let text = value.to_string();
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    };
    let mut manifest = Vec::new();
    for (number, config) in configs.iter().enumerate() {
        let name = format!("config-{number}.json");
        let image = json!({
            "architecture": "amd64", "os": "linux", "config": config,
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
            "history": [{ "created_by": number.to_string() }],
        });
        put(&name, &image);
        let tags = [format!("case:{number}")];
        manifest.push(json!({ "Config": name, "RepoTags": tags, "Layers": ["layer.tar"] }));
    }
    put("manifest.json", &Value::from(manifest));
    tar.finish().unwrap();
}
