use super::*;
use model::size::ByteSize;
use rustix::pipe::pipe;
use std::fs::File;

const T0: Duration = Duration::from_micros(1_700_000_000_000_001);

struct Bench {
    folder: tempfile::TempDir,
    spec: LogSpec,
    /// What PID 1 keeps of the pipes.
    kept: [OwnedFd; 2],
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
        let kept = [out_read, err_read];
        let pump = pump(&folder, &spec, Some(&kept));
        Self { folder, spec, kept, out: Some(out), err: Some(err), pump }
    }

    fn say(&mut self, text: &[u8]) {
        rustix::io::write(self.out.as_ref().unwrap(), text).unwrap();
        self.pump.pump(T0);
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8(std::fs::read(self.folder.path().join(name)).unwrap()).unwrap()
    }

    fn texts(&self) -> Vec<String> {
        self.read("log").lines().map(|line| line[28..].to_owned()).collect()
    }

    /// Another one goes on.
    fn replace(&mut self) {
        self.pump = pump(&self.folder, &self.spec, Some(&self.kept));
    }

    /// The same, after a death between the log and the mark, or, with `lost` bytes of the log less, in the
    /// middle of the log.
    fn replace_after(&mut self, said: &[u8], lost: u64) {
        let mark = self.folder.path().join("spools/mark");
        let before = std::fs::read(&mark).unwrap();
        self.say(said);
        std::fs::write(&mark, before).unwrap();
        let log = File::options().append(true).open(self.folder.path().join("log")).unwrap();
        log.set_len(log.metadata().unwrap().len() - lost).unwrap();
        self.replace();
    }
}

fn pump(folder: &tempfile::TempDir, spec: &LogSpec, pipes: Option<&[OwnedFd; 2]>) -> Pump {
    let copy = |pipes: &[OwnedFd; 2]| pipes.each_ref().map(|fd| fd.try_clone().unwrap());
    Pump::open(spec, folder.path().join("spools"), pipes.map(copy), T0).unwrap()
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
fn another_pump_goes_on_wherever_the_one_before_it_died() {
    let mut bench = Bench::new(1 << 20, 1);
    bench.say(b"one\ntwo\nthr");
    bench.replace();
    // What lay in the pipe meanwhile.
    rustix::io::write(bench.out.as_ref().unwrap(), b"ee\nfo").unwrap();
    bench.replace();
    bench.pump.pump(T0);
    bench.replace_after(b"ur\nfive\n", 0);
    assert_eq!(bench.texts(), ["out one", "out two", "out three", "out four", "out five"]);
    bench.replace_after(b"six\nseven\nei", 3);
    assert_eq!(bench.texts()[5..], ["out six", "out seven"]);
    rustix::io::write(bench.err.as_ref().unwrap(), b"oh\n").unwrap();
    bench.replace_after(b"ght\n", 40);
    assert_eq!(bench.texts()[7..], ["out eight", "err oh"]);
    bench.replace();
    bench.pump.finish(T0);
    assert_eq!(bench.texts().len(), 9);
}

#[test]
fn the_start_of_a_line_is_written_once_more_only_with_its_end() {
    let mut bench = Bench::new(1 << 20, 1);
    bench.say(b"name? ");
    let mark = bench.folder.path().join("spools/mark");
    let before = std::fs::read(&mark).unwrap();
    bench.pump.tick(T0 + PARTIAL_AFTER);
    assert_eq!(bench.texts(), ["out name? "]);
    std::fs::write(&mark, before).unwrap();
    bench.replace();
    assert_eq!(bench.texts(), [""; 0]);
    bench.say(b"me\n");
    assert_eq!(bench.texts(), ["out name? me"]);
    // Of one whose time had come the end is a record of its own, as ever.
    bench.say(b"and ");
    bench.pump.tick(T0 + PARTIAL_AFTER);
    bench.replace();
    bench.say(b"you?\n");
    assert_eq!(bench.texts()[1..], ["out and ", "out you?"]);
}

#[test]
fn a_rotation_is_no_reason_to_say_it_twice() {
    let mut bench = Bench::new(10, 3);
    bench.say(b"a\n");
    bench.replace_after(b"b\n", 0);
    assert_eq!((bench.texts(), bench.read("log.1").lines().count()), (vec!["out b".into()], 1));
    bench.replace_after(b"c\n", 1);
    assert_eq!((bench.texts(), bench.read("log.2").lines().count()), (vec!["out c".into()], 1));
}

#[test]
fn what_a_full_disk_refused_is_counted_by_the_next_one() {
    let mut bench = Bench::new(1 << 20, 1);
    bench.pump.file.file = Some(File::options().append(true).open("/dev/full").unwrap());
    bench.say(b"lost\nlost\n");
    bench.replace();
    bench.replace_after(b"kept\n", 0);
    let told = "err wharf: dropped 2 lines, the log could not be written";
    assert_eq!(bench.texts(), [told, "out kept"]);
}

#[test]
fn long_output_leaves_little_behind_and_is_whole() {
    use std::os::unix::fs::MetadataExt;
    let mut bench = Bench::new(1 << 30, 1);
    for round in 0..500 {
        let text = format!("{round} {}\n", "x".repeat(4000));
        bench.say(text.as_bytes());
        if round % 50 == 0 {
            bench.replace();
        }
    }
    let texts = bench.texts();
    for (round, text) in texts.iter().enumerate() {
        assert!(text.starts_with(&format!("out {round} x")), "{round}: {text}");
    }
    assert_eq!(texts.len(), 500);
    let spool = std::fs::metadata(bench.folder.path().join("spools/out")).unwrap();
    assert!(spool.blocks() * 512 < 256 * 1024, "{} blocks", spool.blocks());
}

#[test]
fn without_room_for_spools_the_log_goes_on() {
    let mut bench = Bench::new(1 << 20, 1);
    bench.say(b"one\ntw");
    // A pipe that its spool cannot take from.
    let spool = bench.folder.path().join("spools/out");
    bench.pump.streams[0].spool = Some(Spool::read_only(&spool));
    bench.say(b"o\nthree\n");
    assert_eq!(bench.texts(), ["out one"]);
    assert!(bench.pump.pump(T0));
    assert_eq!(bench.texts(), ["out one", "out two", "out three"]);
    assert!(!spool.exists());
    bench.replace();
    bench.say(b"four\n");
    assert_eq!(bench.texts()[3..], ["out four"]);
}

#[test]
fn times_are_civil() {
    let at = |seconds| render_time(Duration::from_secs(seconds));
    assert_eq!(at(0), "1970-01-01T00:00:00.000000Z");
    assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000Z");
    assert_eq!(at(4_102_444_799), "2099-12-31T23:59:59.000000Z");
}
