//! Encryption at rest: XChaCha20-Poly1305 with one key per installation.
//!
//! The key file is made once, mode 0600, in the data directory; whoever has the store without it has
//! no secret. Every sealed value is bound to the place it is stored in, so a row cannot be swapped
//! for another.

use std::path::{Path, PathBuf};

use argon2::Argon2;
use argon2::password_hash::PasswordHasher;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};

/// Seals and opens.
#[derive(Clone)]
pub struct Vault {
    cipher: XChaCha20Poly1305,
}

/// What can go wrong with the key or a sealed value.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("cannot read or make the key file {path}")]
    KeyFile { path: PathBuf, source: std::io::Error },
    #[error("the key file {path} holds {found} bytes, not {KEY_BYTES}")]
    KeySize { path: PathBuf, found: usize },
    #[error("a sealed value does not open with this key, or was moved")]
    Broken,
}

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(…)")
    }
}

impl Vault {
    /// The vault whose key is in that file; makes the key when there is none.
    pub fn open_or_create(path: &Path) -> Result<Self, VaultError> {
        let failed = |source| VaultError::KeyFile { path: path.to_owned(), source };
        match std::fs::read(path) {
            Ok(bytes) => Self::from_key(&bytes)
                .ok_or_else(|| VaultError::KeySize { path: path.to_owned(), found: bytes.len() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = random::<KEY_BYTES>();
                crate::files::write_atomic(path, &key, 0o600).map_err(failed)?;
                Self::open_or_create(path)
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn from_key(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == KEY_BYTES)
            .then(|| Self { cipher: XChaCha20Poly1305::new(Key::from_slice(bytes)) })
    }

    /// Encrypts a text for one place.
    pub fn seal(&self, text: &str, place: &str) -> Vec<u8> {
        let nonce = random::<NONCE_BYTES>();
        let payload = Payload { msg: text.as_bytes(), aad: place.as_bytes() };
        let sealed = self
            .cipher
            .encrypt(XNonce::from_slice(&nonce), payload)
            .expect("only texts beyond 256 GiB cannot be sealed");
        [&nonce[..], &sealed].concat()
    }

    /// Decrypts what was sealed for that place.
    pub fn open(&self, sealed: &[u8], place: &str) -> Result<String, VaultError> {
        let (nonce, body) = sealed.split_at_checked(NONCE_BYTES).ok_or(VaultError::Broken)?;
        let payload = Payload { msg: body, aad: place.as_bytes() };
        let plain = self
            .cipher
            .decrypt(XNonce::from_slice(nonce), payload)
            .map_err(|_| VaultError::Broken)?;
        String::from_utf8(plain).map_err(|_| VaultError::Broken)
    }
}

/// Random bytes from the kernel.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("getrandom(2) has no failure after boot");
    bytes
}

/// A token nobody can guess: 256 bits, written so that it survives every shell and URL.
pub fn new_token() -> String {
    random::<32>().iter().fold("wharf-".to_owned(), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}

/// A visitor's password as it is stored: Argon2id with a salt of its own, in the PHC format. None for
/// what is no password: 8 to 256 characters, no control characters.
pub fn hash_password(password: &str) -> Option<String> {
    let is_password =
        (8..=256).contains(&password.chars().count()) && !password.chars().any(char::is_control);
    let hash = is_password.then(|| Argon2::default().hash_password(password.as_bytes()));
    hash?.ok().map(|hash| hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_opens_only_in_its_place_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::open_or_create(&folder.path().join("key")).unwrap();
        let again = Vault::open_or_create(&folder.path().join("key")).unwrap();
        let other = Vault::open_or_create(&folder.path().join("other")).unwrap();
        let sealed = vault.seal("hunter2", "a");
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        assert_eq!(again.open(&sealed, "a").unwrap(), "hunter2");
        assert!(matches!(again.open(&sealed, "b"), Err(VaultError::Broken)));
        assert!(matches!(other.open(&sealed, "a"), Err(VaultError::Broken)));
        assert!(matches!(vault.open(b"short", "a"), Err(VaultError::Broken)));
        assert_ne!(sealed, vault.seal("hunter2", "a"));
    }
}
