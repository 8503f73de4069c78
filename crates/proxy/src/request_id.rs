//! Request ids: the client's if it is a sound one, else one of ours, sortable by time (UUID v7).

use std::cell::RefCell;

use http::HeaderValue;

/// One core's store of random bytes: one system call for many ids.
#[derive(Debug)]
pub(crate) struct RequestIds(RefCell<(Vec<u8>, usize)>);

const POOL: usize = 1000;

impl Default for RequestIds {
    fn default() -> Self {
        Self(RefCell::new((vec![0; POOL], POOL)))
    }
}

impl RequestIds {
    /// The client's id, or a new one.
    pub(crate) fn accept(&self, given: Option<&HeaderValue>, now_ms: u64) -> HeaderValue {
        match given {
            Some(given) if is_sound(given.as_bytes()) => given.clone(),
            Some(_) | None => self.draw(now_ms),
        }
    }

    fn draw(&self, now_ms: u64) -> HeaderValue {
        let mut random = [0_u8; 10];
        let mut store = self.0.borrow_mut();
        let (bytes, used) = &mut *store;
        if *used + random.len() > bytes.len() {
            if getrandom::fill(bytes).is_err() {
                // Only before the kernel's pool is ready, at boot. The time keeps ids apart.
                let seed = now_ms.to_le_bytes();
                bytes.iter_mut().zip(seed.iter().cycle()).for_each(|(byte, seed)| *byte ^= seed);
            }
            *used = 0;
        }
        let end = *used + random.len();
        random.copy_from_slice(&bytes[*used..end]);
        *used = end;
        drop(store);
        let mut id = [0_u8; 16];
        id[..6].copy_from_slice(&now_ms.to_be_bytes()[2..]);
        id[6..].copy_from_slice(&random);
        id[6] = 0x70 | (id[6] & 0x0f);
        id[8] = 0x80 | (id[8] & 0x3f);
        let mut text = [0; 36];
        let text = uuid::Uuid::from_bytes(id).hyphenated().encode_lower(&mut text);
        HeaderValue::try_from(&*text).expect("hex digits and dashes are a header value")
    }
}

fn is_sound(id: &[u8]) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"._+/=-".contains(byte);
    (20..=200).contains(&id.len()) && id.iter().all(is_letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sound_ids_are_taken_over() {
        let ids = RequestIds::default();
        let given = |text: &'static str| ids.accept(Some(&HeaderValue::from_static(text)), 1);
        assert_eq!(given("abcdefghij0123456789"), "abcdefghij0123456789");
        assert_ne!(given("short"), "short");
        assert_ne!(given("abcdefghij01234567 9"), "abcdefghij01234567 9");
    }

    #[test]
    fn own_ids_differ_and_sort_by_time() {
        let ids = RequestIds::default();
        let draw = |ms| ids.accept(None, ms).to_str().unwrap().to_owned();
        let drawn: Vec<_> = (0..500).map(|ms| draw(1_700_000_000_000 + ms)).collect();
        assert!(drawn.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!((drawn[0].len(), &drawn[0][14..15]), (36, "7"));
    }
}
