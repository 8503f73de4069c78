//! Base images from a real registry: Debian's `docker-registry`, filled by `skopeo`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use model::problem::{Code, Problem};
use serde_json::json;
use sha2::{Digest, Sha256};
use wharf::build::base::BaseSource;
use wharf::build::cancel::Cancel;
use wharf::build::registry::RegistryConfig;
use wharf::build::stores::Stores;

use crate::build::{Machine, example};
use crate::support::require::require;

/// A registry of the test's own.
struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    /// A private one asks for a name and a password: `me`, `secret`.
    #[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
    fn start(folder: &Path, is_private: bool) -> Self {
        let root = folder.join("registry");
        let users = folder.join("users");
        // `secret`, by bcrypt.
        let line = "me:$2b$04$Re.WxYawSfzxZss6y2aIIu8jyY..9VhuemYytSuS1XrVZnw3WuLpy\n";
        fs::write(&users, line).unwrap();
        let auth = format!("auth: {{htpasswd: {{realm: r, path: {}}}}}\n", users.display());
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nhttp: {{addr: \"127.0.0.1:0\", secret: s}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n{}",
            root.display(),
            if is_private { &auth } else { "" }
        );
        let file = folder.join("registry.yml");
        fs::write(&file, config).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let rest = line.split_once("listening on ")?.1;
            let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'));
            Some(rest[..end.unwrap_or(rest.len())].to_owned())
        });
        // It must always find a reader for what it says.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { process, address: address.expect("it listens") }
    }

    /// Puts an OCI layout there, as `team/base:1`.
    #[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
    fn fill(&self, layout: &Path) {
        let output = Command::new("skopeo")
            .args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"])
            .args(["--dest-creds", "me:secret"])
            .arg(format!("oci:{}", layout.display()))
            .arg(format!("docker://{}", self.name("1")))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn name(&self, tag: &str) -> String {
        format!("{}/team/base:{tag}", self.address)
    }

    fn base(&self, tag: &str, auth: Option<PathBuf>) -> BaseSource {
        base(&self.name(tag), auth)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn base(name: &str, auth: Option<PathBuf>) -> BaseSource {
    let config = RegistryConfig { auth, certificates: PathBuf::new() };
    BaseSource::new(Some(Path::new(name)), "", config).unwrap()
}

/// An OCI layout of gzipped layers, as every builder of images writes it.
fn layout(folder: &Path, layers: &[Vec<u8>]) -> PathBuf {
    let layout = folder.join("layout");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let hex = |bytes: &[u8]| -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let blob = |bytes: &[u8], kind: &str| {
        fs::write(blobs.join(hex(bytes)), bytes).unwrap();
        let kind = format!("application/vnd.oci.image.{kind}");
        json!({"mediaType": kind, "digest": format!("sha256:{}", hex(bytes)), "size": bytes.len()})
    };
    let mut descriptors = Vec::new();
    for layer in layers {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(layer).unwrap();
        descriptors.push(blob(&gzip.finish().unwrap(), "layer.v1.tar+gzip"));
    }
    let ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", hex(layer))).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": ids}});
    let config = blob(config.to_string().as_bytes(), "config.v1+json");
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": descriptors,
        "mediaType": "application/vnd.oci.image.manifest.v1+json"});
    let manifest = blob(manifest.to_string().as_bytes(), "manifest.v1+json");
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    layout
}

/// A layer of these files.
fn layer(files: &[(&str, &[u8], u32)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        header.set_uid(33);
        header.set_gid(33);
        header.set_cksum();
        tar.append_data(&mut header, name, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn is_ready() -> bool {
    require(&["root", "docker-registry", "skopeo"])
}

/// The base made in stores of its own; where it lies.
fn ensure(base: &BaseSource, data: &Path) -> Result<PathBuf, Problem> {
    let stores = Stores::open(data).unwrap();
    let mut lines = Vec::new();
    let id = base.ensure((&stores, &stores.layers.lease()), &Cancel::default(), &mut |line| {
        lines.push(line.to_string());
    });
    println!("{lines:#?}");
    Ok(stores.layers.path(&id?).unwrap())
}

#[test]
fn an_image_on_a_registry_is_a_base_and_what_it_hides_is_hidden() {
    if !is_ready() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path(), false);
    let lower = layer(&[
        ("bin/sh", b"#!", 0o755),
        ("srv/kept", b"lower", 0o640),
        ("srv/hidden", b"lower", 0o644),
        ("opaque/lower", b"lower", 0o644),
    ]);
    let upper = layer(&[
        ("srv/.wh.hidden", b"", 0o644),
        ("opaque/.wh..wh..opq", b"", 0o644),
        ("opaque/upper", b"upper", 0o644),
    ]);
    registry.fill(&layout(folder.path(), &[lower, upper]));
    let data = folder.path().join("data");
    let root = ensure(&registry.base("1", None), &data).unwrap();
    let kept = fs::metadata(root.join("srv/kept")).unwrap();
    assert_eq!((kept.uid(), kept.permissions().mode() & 0o777), (33, 0o640));
    assert!(!root.join("srv/hidden").exists() && !root.join("srv/.wh.hidden").exists());
    let mut opaque: Vec<_> = fs::read_dir(root.join("opaque"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    opaque.sort();
    assert_eq!(opaque, ["upper"]);
    assert!(
        root.join("etc/passwd").exists() && fs::read_dir(data.join("tmp")).unwrap().count() == 0
    );

    // A tag that is not there, and an image that is not there.
    let problem = ensure(&registry.base("2", None), &data).unwrap_err();
    assert_eq!(problem.code, Code::PullFailed);
    let why = problem.why.clone().unwrap();
    assert!(why.contains("has no `127.0.0.1:") && why.contains("/team/base:2`"), "{problem}");
    // A registry that is gone is not needed for what was pulled.
    let pulled = registry.base("1", None);
    drop(registry);
    ensure(&pulled, &data).unwrap();
}

#[test]
fn a_private_registry_is_shown_our_name_and_a_stranger_is_told() {
    if !is_ready() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path(), true);
    registry.fill(&layout(folder.path(), &[layer(&[("bin/sh", b"#!", 0o755)])]));
    let data = folder.path().join("data");
    let credentials = |name: &str, auth: &str| {
        let path = folder.path().join(name);
        let text = json!({"auths": {&registry.address: {"auth": auth}}});
        fs::write(&path, text.to_string()).unwrap();
        Some(path)
    };
    let problem = ensure(&registry.base("1", None), &data).unwrap_err();
    assert!(problem.to_string().contains("asks for a name and a password"), "{problem}");
    assert!(problem.to_string().contains("registry_auth"), "{problem}");
    // me:wrong
    let problem = ensure(&registry.base("1", credentials("wrong", "bWU6d3Jvbmc=")), &data);
    let problem = problem.unwrap_err();
    assert!(problem.to_string().contains("or are wrong"), "{problem}");
    // me:secret
    let good = credentials("right", "bWU6c2VjcmV0");
    ensure(&registry.base("1", good), &data).unwrap();
}

#[test]
fn an_app_is_built_and_runs_on_a_base_from_a_registry() {
    if !is_ready() || !require(&["busybox", "mmdebstrap", "network"]) {
        return;
    }
    let mut machine = Machine::new();
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path(), false);
    let busybox = fs::read("/bin/busybox").unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(busybox.len() as u64);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    tar.append_data(&mut header, "bin/busybox", busybox.as_slice()).unwrap();
    for name in ["bin/sh", "bin/cat"] {
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        link.set_uid(0);
        link.set_gid(0);
        tar.append_link(&mut link, name, "busybox").unwrap();
    }
    registry.fill(&layout(folder.path(), &[tar.into_inner().unwrap()]));
    machine.ctx.config.base = registry.base("1", None);
    let source = example("static-site", &machine);
    let (built, lines) = machine.build(&source);
    let built = built.unwrap();
    assert!(
        lines.iter().any(|line| line.contains("Pulling the base image 127.0.0.1:")),
        "{lines:?}"
    );
    let answer = machine.ask(&built, "/");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
