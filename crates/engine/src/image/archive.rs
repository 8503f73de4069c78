//! An image as one file: writing OCI archives, and reading root file systems from archives.
//!
//! What is written is an OCI image layout in a tar (`skopeo` calls it `oci-archive`), its layers as
//! uncompressed canonical tars, so that their digests are the ones they have here.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use model::release::ImageRef;
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Archive, Builder, EntryType, Header};

use super::layer::LayerStore;
use super::store::ImageStore;
use super::{ImageError, hex, stream};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Writes an image to `path` as an OCI archive, tagged `name`.
pub fn export(
    image: &ImageRef,
    name: &str,
    (images, layers): (&ImageStore, &LayerStore),
    path: &Path,
) -> Result<(), ImageError> {
    let missing = || ImageError::NoLayer(image.0.clone());
    let config_bytes = images.bytes(image)?.ok_or_else(missing)?;
    let config = images.get(image)?.ok_or_else(missing)?;
    let file = File::create(path).map_err(ImageError::io("make", path))?;
    let mut tar = Builder::new(BufWriter::new(file));
    let wrote = || ImageError::io("write", path);

    blob(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).map_err(wrote())?;
    let mut descriptors = Vec::new();
    for id in config.layers() {
        let size = layer_blob(&mut tar, id.as_str(), &layers.path(id)?, path)?;
        descriptors.push(json!({"mediaType": LAYER, "digest": id.diff_id(), "size": size}));
    }
    let config_digest = put_blob(&mut tar, &config_bytes).map_err(wrote())?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": config_digest, "size": config_bytes.len()},
        "layers": descriptors,
    });
    let manifest = manifest.to_string().into_bytes();
    let manifest_digest = put_blob(&mut tar, &manifest).map_err(wrote())?;
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": MANIFEST,
            "digest": manifest_digest,
            "size": manifest.len(),
            "annotations": {"org.opencontainers.image.ref.name": name},
        }],
    });
    blob(&mut tar, "index.json", index.to_string().as_bytes()).map_err(wrote())?;
    let mut out = tar.into_inner().map_err(wrote())?;
    out.flush().map_err(wrote())
}

/// A layer's length is only known once it is streamed, and a tar header wants it first: the header
/// is written again afterwards.
fn layer_blob(
    tar: &mut Builder<BufWriter<File>>,
    digits: &str,
    layer: &Path,
    path: &Path,
) -> Result<u64, ImageError> {
    let wrote = || ImageError::io("write", path);
    let out = tar.get_mut();
    let start = out.stream_position().map_err(wrote())?;
    out.write_all(&[0; 512]).map_err(wrote())?;
    stream::write_tar(layer, &mut *out)?;
    let end = out.stream_position().map_err(wrote())?;
    let size = end - start - 512;
    let padding = usize::try_from((512 - size % 512) % 512).expect("less than 512");
    let mut finish = || {
        out.write_all(&[0; 512][..padding])?;
        let after = out.stream_position()?;
        out.seek(SeekFrom::Start(start))?;
        out.write_all(header(&format!("blobs/sha256/{digits}"), size)?.as_bytes())?;
        out.seek(SeekFrom::Start(after))
    };
    finish().map_err(wrote())?;
    Ok(size)
}

fn put_blob(tar: &mut Builder<BufWriter<File>>, bytes: &[u8]) -> io::Result<String> {
    let digits = hex(&Sha256::digest(bytes));
    blob(tar, &format!("blobs/sha256/{digits}"), bytes)?;
    Ok(format!("sha256:{digits}"))
}

fn blob(tar: &mut Builder<BufWriter<File>>, name: &str, bytes: &[u8]) -> io::Result<()> {
    tar.append(&header(name, bytes.len() as u64)?, bytes)
}

fn header(name: &str, size: u64) -> io::Result<Header> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_path(name)?;
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

/// Unpacks a root file system into the empty folder `into`: a plain tar (gzip or not), or an image
/// archive as `docker save` and `skopeo copy … oci-archive:` write it.
pub fn unpack_root(
    archive: &Path,
    into: &Path,
    gunzip: fn(Box<dyn Read>) -> Box<dyn Read>,
) -> Result<(), ImageError> {
    let blobs = image_layers(archive, into, gunzip)?;
    match blobs {
        None => {
            let read = open(archive, gunzip)?;
            unpack_layer(read, into, archive)
        }
        Some((folder, names)) => {
            for name in names {
                let read = open(&folder.join(name), gunzip)?;
                unpack_layer(read, into, archive)?;
            }
            super::layer::remove_tree(&folder)
        }
    }
}

/// Lays one layer of an image, as registries keep them, over what is in `into`.
pub fn unpack_blob(
    blob: &Path,
    into: &Path,
    gunzip: fn(Box<dyn Read>) -> Box<dyn Read>,
) -> Result<(), ImageError> {
    unpack_layer(open(blob, gunzip)?, into, blob)
}

/// For an image archive: its blobs, unpacked beside `into`, and the layers among them in order.
fn image_layers(
    archive: &Path,
    into: &Path,
    gunzip: fn(Box<dyn Read>) -> Box<dyn Read>,
) -> Result<Option<(PathBuf, Vec<String>)>, ImageError> {
    let read = || ImageError::io("read", archive);
    let mut first = Archive::new(open(archive, gunzip)?);
    let mut is_image = false;
    for entry in first.entries().map_err(read())? {
        let entry = entry.map_err(read())?;
        let name = entry.path().map_err(read())?;
        let name = name.strip_prefix("./").unwrap_or(&name);
        if name == Path::new("index.json") || name == Path::new("manifest.json") {
            is_image = true;
            break;
        }
        // A root file system shows itself long before its end is read.
        if name.starts_with("usr") || name.starts_with("etc") {
            break;
        }
    }
    if !is_image {
        return Ok(None);
    }
    let folder = into.with_extension("blobs");
    fs::create_dir_all(&folder).map_err(ImageError::io("make", &folder))?;
    Archive::new(open(archive, gunzip)?).unpack(&folder).map_err(read())?;
    let not =
        |why: &str| ImageError::NotAnArchive { path: archive.to_owned(), why: why.to_owned() };
    let json = |name: &str| -> Option<serde_json::Value> {
        serde_json::from_slice(&fs::read(folder.join(name)).ok()?).ok()
    };
    let place = |digest: &serde_json::Value| Some(digest.as_str()?.replacen(':', "/", 1));
    let names: Option<Vec<String>> = if let Some(index) = json("index.json") {
        (|| {
            let manifest = place(&index["manifests"][0]["digest"])?;
            let manifest = json(&format!("blobs/{manifest}"))?;
            let layers = manifest["layers"].as_array()?;
            layers.iter().map(|layer| Some(format!("blobs/{}", place(&layer["digest"])?))).collect()
        })()
    } else {
        (|| {
            let manifest = json("manifest.json")?;
            let layers = manifest[0]["Layers"].as_array()?.clone();
            layers.iter().map(|name| Some(name.as_str()?.to_owned())).collect()
        })()
    };
    let names = names.ok_or_else(|| not("its index names no layers"))?;
    let is_inside = |name: &String| {
        Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)))
    };
    if !names.iter().all(is_inside) {
        return Err(not("its index names a file outside of it"));
    }
    Ok(Some((folder, names)))
}

fn open(
    path: &Path,
    gunzip: fn(Box<dyn Read>) -> Box<dyn Read>,
) -> Result<Box<dyn Read>, ImageError> {
    let mut file = File::open(path).map_err(ImageError::io("open", path))?;
    let mut magic = [0; 2];
    let count = file.read(&mut magic).map_err(ImageError::io("read", path))?;
    file.rewind().map_err(ImageError::io("read", path))?;
    let read = Box::new(BufReader::with_capacity(1 << 16, file));
    Ok(if count == 2 && magic == [0x1f, 0x8b] { gunzip(read) } else { read })
}

/// Lays one layer over what is in `into`, whiteouts taking away what was there.
fn unpack_layer(read: impl Read, into: &Path, archive: &Path) -> Result<(), ImageError> {
    let failed = || ImageError::io("unpack", archive);
    let mut tar = Archive::new(read);
    tar.set_preserve_permissions(true);
    tar.set_preserve_ownerships(true);
    tar.set_unpack_xattrs(true);
    tar.set_overwrite(true);
    let mut folders = Vec::new();
    for entry in tar.entries().map_err(failed())? {
        let mut entry = entry.map_err(failed())?;
        let name = entry.path().map_err(failed())?.into_owned();
        let is_climbing = name.components().any(|part| part == std::path::Component::ParentDir);
        if is_climbing || name.is_absolute() {
            let why = format!("`{}` leads out of it", name.display());
            return Err(ImageError::NotAnArchive { path: archive.to_owned(), why });
        }
        if let Some(hidden) = name.file_name().and_then(|file| file.to_str()?.strip_prefix(".wh."))
        {
            let parent = into.join(name.parent().unwrap_or_else(|| Path::new("")));
            if leads_away(into, &parent) {
                let why = format!("`{}` leads out of it by a link", name.display());
                return Err(ImageError::NotAnArchive { path: archive.to_owned(), why });
            }
            if hidden == ".wh..opq" {
                for child in fs::read_dir(&parent).into_iter().flatten().flatten() {
                    super::layer::remove_tree(&child.path())?;
                }
            } else {
                super::layer::remove_tree(&parent.join(hidden))?;
            }
            continue;
        }
        match entry.header().entry_type() {
            // Set at the end: a file unpacked later would change the folder's time again.
            EntryType::Directory => folders.push((name, entry.header().mtime().unwrap_or(0))),
            EntryType::Char | EntryType::Block | EntryType::Fifo => continue,
            _ => {}
        }
        entry.unpack_in(into).map_err(failed())?;
    }
    for (name, mtime) in folders.into_iter().rev() {
        if leads_away(into, &into.join(&name)) {
            continue;
        }
        let Ok(folder) = File::open(into.join(&name)) else { continue };
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(mtime);
        folder.set_modified(at).map_err(ImageError::io("unpack", archive))?;
    }
    Ok(())
}

/// Whether a part of the way from `root` to the folder, or it itself, is a symbolic link: whoever
/// followed it could end on the host.
fn leads_away(root: &Path, folder: &Path) -> bool {
    let is_link = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink());
    folder.ancestors().take_while(|path| *path != root).any(is_link)
}
