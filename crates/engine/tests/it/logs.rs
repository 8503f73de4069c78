use crate::bench::{Bench, skip};
use model::size::ByteSize;

#[test]
fn nothing_printed_before_the_end_is_lost() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let (_, said) = bench.run(&bench.spec("a", "seq 1 50000; printf 'no newline'"));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 50_001);
    assert_eq!((lines[49_999], lines[50_000]), ("50000", "no newline"));
}

#[test]
fn a_prompt_shows_while_the_program_waits() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.start(&bench.spec("a", "printf 'password: '; sleep 1000"));
    bench.wait_until_said("a", "password: ");
}

#[test]
fn log_files_are_rotated() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let mut spec = bench.spec("a", "seq 1 30000");
    spec.log.as_mut().unwrap().rotate_at = ByteSize(100_000);
    bench.run(&spec);
    let names: Vec<bool> = ["a", "a.1", "a.2", "a.3"]
        .iter()
        .map(|name| bench.path("logs").join(name).exists())
        .collect();
    assert_eq!(names, [true, true, true, false]);
    let total = |name| std::fs::metadata(bench.path("logs").join(name)).unwrap().len();
    assert!(total("a.1") >= 100_000 && total("a.1") < 3_000_000, "{}", total("a.1"));
}
