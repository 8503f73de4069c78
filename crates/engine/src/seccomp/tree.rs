//! Answers by call number, as a tree of comparisons: some eight for each call.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, sock_filter};

use crate::seccomp::Answer;

// Classic BPF, by the numbers in the kernel's `linux/bpf_common.h`.
pub(super) const LOAD_WORD: u16 = 0x20;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_GREATER: u16 = 0x25;
const JUMP_AT_LEAST: u16 = 0x35;
pub(super) const RETURN: u16 = 0x06;
/// Where in what is judged the architecture and the call's number are.
const ARCH_AT: u32 = 4;
const CALL_AT: u32 = 0;
/// `AUDIT_ARCH_X86_64`.
const X86_64: u32 = 0xC000_003E;

/// The program; what it leaves to be looked at closer, and calls of another architecture, go on behind
/// its end.
pub(super) fn compile(answers: &BTreeMap<i64, Answer>) -> BpfProgram {
    let ranges = ranges(answers);
    let end = 4 + size(ranges.len());
    let mut program = vec![
        plain(LOAD_WORD, ARCH_AT),
        sock_filter { code: JUMP_EQUAL, jt: 1, jf: 0, k: X86_64 },
        plain(JUMP, distance(2, end)),
        plain(LOAD_WORD, CALL_AT),
    ];
    emit(&ranges, &mut program, end);
    program
}

/// From which number on which answer holds.
fn ranges(answers: &BTreeMap<i64, Answer>) -> Vec<(u32, Answer)> {
    let mut ranges = vec![(0, Answer::Refuse)];
    let mut begin = |from: i64, answer: Answer| {
        let from = u32::try_from(from).expect("call numbers are small");
        match ranges.last_mut() {
            Some((_, last)) if *last == answer => {}
            Some(last) if last.0 == from => last.1 = answer,
            _ => ranges.push((from, answer)),
        }
    };
    for (&call, &answer) in answers {
        begin(call, answer);
        begin(call + 1, answers.get(&(call + 1)).copied().unwrap_or(Answer::Refuse));
    }
    ranges
}

/// Of a tree over so many ranges: a comparison for each but one, an answer for each, and a jump over the
/// lower half for each comparison.
fn size(ranges: usize) -> usize {
    if ranges == 1 { 1 } else { 2 + size(ranges / 2) + size(ranges - ranges / 2) }
}

fn emit(ranges: &[(u32, Answer)], program: &mut BpfProgram, end: usize) {
    match ranges {
        [] => {}
        [(_, answer)] => program.push(match answer {
            Answer::Pass => plain(RETURN, libc::SECCOMP_RET_ALLOW),
            Answer::Refuse => plain(RETURN, libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs()),
            Answer::Closer => plain(JUMP, distance(program.len(), end)),
        }),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            program.push(sock_filter { code: JUMP_AT_LEAST, jt: 0, jf: 1, k: high[0].0 });
            // A comparison alone jumps no further than 255.
            let skip = u32::try_from(size(low.len())).expect("a program is short");
            program.push(plain(JUMP, skip));
            emit(low, program, end);
            emit(high, program, end);
        }
    }
}

/// Over how many a jump at `from` goes on at `to`.
fn distance(from: usize, to: usize) -> u32 {
    u32::try_from(to - from - 1).expect("a program is short and goes on")
}

fn plain(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}
