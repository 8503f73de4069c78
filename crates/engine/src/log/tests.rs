use super::*;
use model::size::ByteSize;
use rustix::pipe::pipe;

const T0: Duration = Duration::from_micros(1_700_000_000_000_001);

struct Bench {
    folder: tempfile::TempDir,
    out: Option<OwnedFd>,
    err: Option<OwnedFd>,
    pump: Pump,
}

impl Bench {
    fn new(rotate_at: u64, keep: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spec =
            LogSpec { path: folder.path().join("log"), rotate_at: ByteSize(rotate_at), keep };
        let (out_read, out) = pipe().unwrap();
        let (err_read, err) = pipe().unwrap();
        let pump = Pump::open(&spec, out_read, err_read).unwrap();
        Self { folder, out: Some(out), err: Some(err), pump }
    }

    fn say(&mut self, text: &[u8]) {
        rustix::io::write(self.out.as_ref().unwrap(), text).unwrap();
        self.pump.pump(T0);
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8(std::fs::read(self.folder.path().join(name)).unwrap()).unwrap()
    }
}

#[test]
fn every_line_is_a_record_of_its_stream() {
    let mut bench = Bench::new(1 << 20, 1);
    rustix::io::write(bench.err.as_ref().unwrap(), b"oh\n").unwrap();
    bench.say(b"one\ntwo\r\n\n");
    assert_eq!(
        bench.read("log"),
        "2023-11-14T22:13:20.000001Z out one\n2023-11-14T22:13:20.000001Z out two\n\
         2023-11-14T22:13:20.000001Z out \n2023-11-14T22:13:20.000001Z err oh\n"
    );
}

#[test]
fn a_prompt_without_a_line_end_is_written_when_its_time_has_come() {
    let mut bench = Bench::new(1 << 20, 1);
    bench.say(b"name? ");
    assert_eq!(bench.pump.due(), Some(T0 + PARTIAL_AFTER));
    bench.pump.tick(T0 + PARTIAL_AFTER - Duration::from_micros(1));
    assert_eq!(bench.read("log"), "");
    bench.pump.tick(T0 + PARTIAL_AFTER);
    assert_eq!(bench.read("log"), "2023-11-14T22:13:20.000001Z out name? \n");
    assert_eq!(bench.pump.due(), None);
}

#[test]
fn a_long_line_becomes_several_records() {
    let mut bench = Bench::new(1 << 20, 1);
    bench.say(&vec![b'x'; LONGEST + 1]);
    bench.say(b"\n");
    let log = bench.read("log");
    let lengths: Vec<usize> = log.lines().map(|line| line.len() - 32).collect();
    assert_eq!(lengths, [LONGEST, 1]);
}

#[test]
fn the_end_writes_all_that_was_printed() {
    let mut bench = Bench::new(1 << 20, 1);
    rustix::io::write(bench.out.as_ref().unwrap(), &b"x\n".repeat(30_000)).unwrap();
    rustix::io::write(bench.out.as_ref().unwrap(), b"last words").unwrap();
    bench.out = None;
    bench.err = None;
    bench.pump.finish(T0);
    let log = bench.read("log");
    assert_eq!(log.lines().count(), 30_001);
    assert!(log.ends_with("out last words\n"));
}

#[test]
fn files_are_rotated_and_the_oldest_dropped() {
    let mut bench = Bench::new(10, 2);
    for text in ["a\n", "b\n", "c\n", "d\n"] {
        bench.say(text.as_bytes());
    }
    assert!(bench.read("log").ends_with("out d\n"));
    assert!(bench.read("log.1").ends_with("out c\n"));
    assert!(bench.read("log.2").ends_with("out b\n"));
    assert!(!bench.folder.path().join("log.3").exists());
}

#[test]
fn what_a_full_disk_refused_is_counted() {
    let mut bench = Bench::new(1 << 20, 1);
    // Every write to this device fails as on a full disk.
    bench.pump.file.file = Some(File::options().append(true).open("/dev/full").unwrap());
    bench.say(b"lost\nlost\n");
    bench.pump.file.file = None;
    bench.say(b"kept\n");
    let log = bench.read("log");
    let texts: Vec<&str> = log.lines().map(|line| &line[28..]).collect();
    assert_eq!(texts, ["err wharf: dropped 2 lines, the log could not be written", "out kept"]);
}

#[test]
fn times_are_civil() {
    let at = |seconds| render_time(Duration::from_secs(seconds));
    assert_eq!(at(0), "1970-01-01T00:00:00.000000Z");
    assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000Z");
    assert_eq!(at(4_102_444_799), "2099-12-31T23:59:59.000000Z");
}
