//! The last records of a file, read from its end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const BLOCK: u64 = 64 * 1024;

/// Calls `each` with every record before `end` (a boundary, see [`last_boundary`]), the newest first,
/// until it says stop. Records are without their newline.
pub(super) fn read_back(
    file: &File,
    end: u64,
    mut each: impl FnMut(&[u8]) -> Go,
) -> io::Result<()> {
    let mut position = end;
    // The bytes between `position` and the oldest newline seen so far: the end of a record whose
    // beginning is not read yet.
    let mut rest: Vec<u8> = Vec::new();
    let mut is_first = true;
    while position > 0 {
        let size = position.min(BLOCK);
        position -= size;
        let mut block = vec![0; usize::try_from(size).expect("a block fits in memory")];
        file.read_exact_at(&mut block, position)?;
        block.extend_from_slice(&rest);
        let mut whole = block.as_slice();
        while let Some(newline) = whole.iter().rposition(|byte| *byte == b'\n') {
            let record = &whole[newline + 1..];
            // Nothing follows the last newline: `end` is a boundary.
            if !is_first && each(record) == Go::Stop {
                return Ok(());
            }
            is_first = false;
            whole = &whole[..newline];
        }
        rest = whole.to_vec();
    }
    if !rest.is_empty() {
        each(&rest);
    }
    Ok(())
}

/// Whether older records are wanted too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Go {
    On,
    Stop,
}

/// The position after the last newline before `size`: where the next record begins.
pub(super) fn last_boundary(file: &File, size: u64) -> io::Result<u64> {
    let mut position = size;
    while position > 0 {
        let length = position.min(BLOCK);
        position -= length;
        let mut block = vec![0; usize::try_from(length).expect("a block fits in memory")];
        file.read_exact_at(&mut block, position)?;
        if let Some(newline) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(position + u64::try_from(newline).unwrap_or(0) + 1);
        }
    }
    Ok(0)
}
