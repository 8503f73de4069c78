use crate::bench::{Bench, LIMIT, skip, until};
use model::size::ByteSize;
use std::time::Duration;

#[test]
fn running_out_of_memory_is_reported_as_that() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let mut spec = bench.spec("a", "exec tail -c 200000000 /dev/zero");
    spec.limits.memory = Some(ByteSize::mib(16));
    let (end, _) = bench.run(&spec);
    assert_eq!((end.code, end.signal), (137, Some(9)));
    assert!(end.oom_kills >= 1, "{end:?}");
}

#[test]
fn a_fork_bomb_hits_its_bound() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let mut spec = bench.spec("a", "for i in $(seq 40); do sleep 1000 & done; echo all");
    spec.limits.pids = 10;
    let (end, said) = bench.run(&spec);
    assert_ne!(end.code, 0);
    assert!(said.contains("can't fork"), "{said}");
}

#[test]
fn processor_time_is_bounded_and_told() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let mut spec = bench.spec("a", "while true; do true; done");
    spec.limits.cpu_millis = Some(100);
    bench.start(&spec);
    // Starting it cost something already, on a slow machine more than this.
    let before = bench.engine.usage("a").unwrap().cpu_time;
    let since = std::time::Instant::now();
    until("it has used some", || {
        bench.engine.usage("a").unwrap().cpu_time >= before + Duration::from_millis(100)
    });
    let took = since.elapsed();
    assert!(took >= Duration::from_millis(500) && took < LIMIT, "{took:?} for 100 ms at a tenth");
    let usage = bench.engine.usage("a").unwrap();
    assert!(usage.memory.bytes() > 0 && usage.processes >= 2, "{usage:?}");
}

#[test]
fn open_files_are_bounded() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let mut spec = bench.spec("a", "ulimit -n; ulimit -c");
    spec.limits.open_files = 123;
    assert_eq!(bench.run(&spec).1, "123\n0");
}
