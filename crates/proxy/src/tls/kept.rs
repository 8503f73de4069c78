//! The last certificate table on disk, and the one before it: sealed, because it holds keys.
//!
//! The seal's key is in a file of root's, outside the worker's folders. The holder, which is root,
//! reads it once and hands it to each worker; the worker could not read it. So a copy of the state
//! folder is no copy of the keys, and the worker serves TLS with nobody else alive.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use model::certificate::CertificateTable;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const CURRENT: &str = "certificates";
const PREVIOUS: &str = "certificates.previous";
/// Binds what is sealed to its purpose and form.
const PLACE: &[u8] = b"wharf-certificates 1";
const NONCE_BYTES: usize = 24;

/// What opens the kept table. Blind to `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct SealKey([u8; 32]);

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(…)")
    }
}

impl SealKey {
    /// The key in that file; made when there is none.
    pub(crate) fn open_or_create(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => bytes.try_into().map(Self).map_err(|_| io::ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut key = [0; 32];
                getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
                write(path, &key)?;
                Ok(Self(key))
            }
            Err(error) => Err(error),
        }
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(Key::from_slice(&self.0))
    }
}

/// Keeps a table; when it returns, the table survives a power cut.
pub(crate) fn store(folder: &Path, table: &CertificateTable, key: &SealKey) -> Result<()> {
    let current = folder.join(CURRENT);
    let seal = || -> io::Result<Vec<u8>> {
        let json = serde_json::to_vec(table)?;
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
        let payload = Payload { msg: &json, aad: PLACE };
        let sealed = key.cipher().encrypt(XNonce::from_slice(&nonce), payload);
        Ok([&nonce[..], &sealed.map_err(|_| io::ErrorKind::InvalidData)?].concat())
    };
    let keep = || {
        let sealed = seal()?;
        match fs::rename(&current, folder.join(PREVIOUS)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        write(&current, &sealed)
    };
    keep().map_err(|source| Error::Snapshot { path: current.clone(), source })
}

/// Whole or not at all, and for its owner alone.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(&draft, path)) {
        // On a full disk it would be in everybody's way.
        let _gone = fs::remove_file(&draft);
        return Err(error);
    }
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// The newest table that opens, if there is one.
pub(crate) fn load(folder: &Path, key: &SealKey) -> Option<CertificateTable> {
    [CURRENT, PREVIOUS].into_iter().find_map(|name| {
        let path = folder.join(name);
        let bytes = fs::read(&path).ok()?;
        let table = open(&bytes, key);
        if table.is_none() {
            tracing::warn!(path = %path.display(), "kept certificates cannot be opened");
        }
        table
    })
}

fn open(bytes: &[u8], key: &SealKey) -> Option<CertificateTable> {
    let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES)?;
    let payload = Payload { msg: sealed, aad: PLACE };
    let json = key.cipher().decrypt(XNonce::from_slice(nonce), payload).ok()?;
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::certificate::{LocalIssuer, PrivateKey};

    fn table(version: u64) -> CertificateTable {
        let key = PrivateKey::new("hunter2-the-private-key");
        let issuer = LocalIssuer { name: "x".into(), chain: "y".into(), key };
        CertificateTable { version, issuer: Some(issuer), ..CertificateTable::default() }
    }

    #[test]
    fn a_kept_table_hides_its_keys_and_a_damaged_one_falls_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = SealKey::open_or_create(&path).unwrap();
        assert_eq!(load(folder.path(), &key), None);
        store(folder.path(), &table(1), &key).unwrap();
        store(folder.path(), &table(2), &key).unwrap();
        let again = SealKey::open_or_create(&path).unwrap();
        assert_eq!(load(folder.path(), &again), Some(table(2)));
        let current = folder.path().join(CURRENT);
        let whole = fs::read(&current).unwrap();
        assert!(!whole.windows(7).any(|part| part == b"hunter2"));
        for position in (0..whole.len()).step_by(7) {
            let mut changed = whole.clone();
            changed[position] ^= 1;
            fs::write(&current, &changed).unwrap();
            assert_eq!(load(folder.path(), &key), Some(table(1)), "changed at {position}");
            fs::write(&current, &whole[..position]).unwrap();
            assert_eq!(load(folder.path(), &key), Some(table(1)), "cut at {position}");
        }
        let other = SealKey::open_or_create(&folder.path().join("other")).unwrap();
        assert_eq!(load(folder.path(), &other), None);
    }
}
