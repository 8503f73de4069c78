//! A pushed pack on its way in: read to its end before git sees it, so that a client that hangs up
//! half way leaves nothing running, and one that is slow holds nothing up.

use std::io::{self, Seek, Write};
use std::path::Path;

use flate2::write::GzDecoder;

/// Up to this a body stays in memory.
const IN_MEMORY: usize = 1 << 20;

/// A whole body.
#[derive(Debug)]
pub enum Spooled {
    Memory(Vec<u8>),
    /// An unnamed file, at its beginning.
    File(std::fs::File),
}

/// Why a body was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("more than {0} bytes")]
    TooLarge(u64),
    #[error("the body is not the gzip it says it is")]
    NotGzip(#[source] io::Error),
    #[error("cannot keep the body")]
    Keep(#[source] io::Error),
}

/// Takes a body piece by piece.
#[derive(Debug)]
pub struct Spool {
    writer: Writer,
}

#[derive(Debug)]
enum Writer {
    Plain(Sink),
    Gzip(Box<GzDecoder<Sink>>),
}

/// Counts, and moves from memory to a file when it is much.
#[derive(Debug)]
struct Sink {
    folder: std::path::PathBuf,
    kept: Spooled,
    count: u64,
    limit: u64,
}

impl Spool {
    /// For a body of at most `limit` bytes once unpacked; files go to that folder.
    pub fn new(folder: &Path, limit: u64, is_gzip: bool) -> Self {
        let sink =
            Sink { folder: folder.to_owned(), kept: Spooled::Memory(Vec::new()), count: 0, limit };
        let writer = if is_gzip {
            Writer::Gzip(Box::new(GzDecoder::new(sink)))
        } else {
            Writer::Plain(sink)
        };
        Self { writer }
    }

    /// One more piece.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), SpoolError> {
        match &mut self.writer {
            Writer::Plain(sink) => sink.write_all(piece).map_err(|error| sink.blame(error)),
            Writer::Gzip(decoder) => {
                let result = decoder.write_all(piece);
                result.map_err(|error| decoder.get_ref().blame(error))
            }
        }
    }

    /// The whole of it.
    pub fn finish(self) -> Result<Spooled, SpoolError> {
        let sink = match self.writer {
            Writer::Plain(sink) => sink,
            Writer::Gzip(decoder) => decoder.finish().map_err(SpoolError::NotGzip)?,
        };
        match sink.kept {
            Spooled::Memory(bytes) => Ok(Spooled::Memory(bytes)),
            Spooled::File(mut file) => {
                file.rewind().map_err(SpoolError::Keep)?;
                Ok(Spooled::File(file))
            }
        }
    }
}

impl Sink {
    /// Which of the three it was: the decoder passes the sink's own errors through.
    fn blame(&self, error: io::Error) -> SpoolError {
        match error.kind() {
            io::ErrorKind::FileTooLarge => SpoolError::TooLarge(self.limit),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => SpoolError::NotGzip(error),
            _ => SpoolError::Keep(error),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.count += piece.len() as u64;
        if self.count > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if let Spooled::Memory(bytes) = &mut self.kept {
            if bytes.len() + piece.len() <= IN_MEMORY {
                bytes.extend_from_slice(piece);
                return Ok(piece.len());
            }
            std::fs::create_dir_all(&self.folder)?;
            let mut file = tempfile::tempfile_in(&self.folder)?;
            file.write_all(bytes)?;
            self.kept = Spooled::File(file);
        }
        if let Spooled::File(file) = &mut self.kept {
            file.write_all(piece)?;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn spool(pieces: &[&[u8]], limit: u64, is_gzip: bool) -> Result<Vec<u8>, SpoolError> {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path(), limit, is_gzip);
        for piece in pieces {
            spool.push(piece)?;
        }
        Ok(match spool.finish()? {
            Spooled::Memory(bytes) => bytes,
            Spooled::File(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).unwrap();
                assert!(bytes.len() > IN_MEMORY);
                bytes
            }
        })
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn small_and_large_bodies_come_back_whole() {
        let large = vec![7; 3 << 20];
        assert_eq!(spool(&[b"a", b"b"], 10, false).unwrap(), b"ab");
        let pieces: Vec<&[u8]> = large.chunks(100_000).collect();
        assert_eq!(spool(&pieces, 4 << 20, false).unwrap(), large);
        let packed = gzip(&large);
        let pieces: Vec<&[u8]> = packed.chunks(13).collect();
        assert_eq!(spool(&pieces, 4 << 20, true).unwrap(), large);
    }

    #[test]
    fn the_limit_is_on_what_comes_out() {
        let packed = gzip(&vec![0; 2 << 20]);
        assert!(packed.len() < 100_000);
        assert!(matches!(spool(&[&packed], 1 << 20, true), Err(SpoolError::TooLarge(_))));
        assert!(matches!(spool(&[&[0; 11]], 10, false), Err(SpoolError::TooLarge(10))));
    }

    #[test]
    fn what_is_no_gzip_is_refused() {
        assert!(matches!(
            spool(&[b"0000 not gzip at all"], 100, true),
            Err(SpoolError::NotGzip(_))
        ));
    }
}
