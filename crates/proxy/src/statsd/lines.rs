//! From two looks at the counts to statsd's lines. Pure.

use crate::control::measures::{AppMeasures, BOUNDS_US, Measures, Spread};

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

type Of<T> = fn(&AppMeasures) -> T;
type SpreadOf = fn(&AppMeasures) -> &Spread;

/// What changed, as lines.
pub(super) fn since(prefix: &str, last: Option<&Measures>, now: &Measures) -> Vec<String> {
    let mut lines = Lines { prefix, lines: Vec::new() };
    let sum = |measures: &Measures, one: fn(&crate::control::measures::CoreMeasures) -> u64| {
        measures.cores.iter().map(one).sum::<u64>()
    };
    let grown = |one: fn(&crate::control::measures::CoreMeasures) -> u64| {
        sum(now, one).saturating_sub(last.map_or(0, |last| sum(last, one)))
    };
    lines.gauge("edge.connections.open", sum(now, |core| core.open));
    lines.count("edge.connections", grown(|core| core.connections));
    lines.count("edge.handshakes", grown(|core| core.handshakes));
    lines.count("edge.handshakes.failed", grown(|core| core.handshakes_failed));
    for (code, count) in &now.errors {
        let before = last.and_then(|last| last.errors.get(code)).copied().unwrap_or(0);
        lines.count(&format!("edge.errors.{code}"), count.saturating_sub(before));
    }
    for (id, app) in &now.apps {
        lines.app(last.and_then(|last| last.apps.get(id)), app);
    }
    lines.lines
}

struct Lines<'a> {
    prefix: &'a str,
    lines: Vec<String>,
}

impl Lines<'_> {
    fn count(&mut self, name: &str, count: u64) {
        if count > 0 {
            self.lines.push(format!("{}.{name}:{count}|c", self.prefix));
        }
    }

    fn gauge(&mut self, name: &str, value: u64) {
        self.lines.push(format!("{}.{name}:{value}|g", self.prefix));
    }

    /// One line stands for all durations of a place: a sample rate of a third is three of them.
    fn timer(&mut self, name: &str, spread: &Spread) {
        for (place, count) in spread.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let low = place.checked_sub(1).map_or(0, |before| BOUNDS_US[before]);
            let high = BOUNDS_US.get(place).copied().unwrap_or(low);
            let middle = std::time::Duration::from_micros(low.midpoint(high)).as_secs_f64() * 1e3;
            let count = f64::from(u32::try_from(*count).unwrap_or(u32::MAX));
            let rate = 1.0 / count;
            self.lines.push(format!("{}.{name}:{middle:.3}|ms|@{rate}", self.prefix));
        }
    }

    fn app(&mut self, last: Option<&AppMeasures>, now: &AppMeasures) {
        if now.requests == 0 {
            return;
        }
        let app = now.name.as_str();
        let before = |one: Of<u64>| last.map_or(0, one);
        let counts: [(&str, Of<u64>); 6] = [
            ("requests", |app| app.requests),
            ("bytes_in", |app| app.bytes_in),
            ("bytes_out", |app| app.bytes_out),
            ("upgrades", |app| app.upgrades),
            ("retries", |app| app.retries),
            ("held", |app| app.held),
        ];
        for (name, one) in counts {
            self.count(&format!("{app}.{name}"), one(now).saturating_sub(before(one)));
        }
        for (class, name) in CLASSES.iter().enumerate() {
            let before = last.map_or(0, |last| last.answers[class]);
            self.count(&format!("{app}.status.{name}"), now.answers[class].saturating_sub(before));
        }
        for (code, count) in &now.errors {
            let before = last.and_then(|last| last.errors.get(code)).copied().unwrap_or(0);
            self.count(&format!("{app}.errors.{code}"), count.saturating_sub(before));
        }
        let nothing = Spread::default();
        let timers: [(&str, SpreadOf); 3] = [
            ("duration", |app| &app.duration),
            ("connect", |app| &app.connect),
            ("first_byte", |app| &app.first_byte),
        ];
        for (name, one) in timers {
            self.timer(&format!("{app}.{name}"), &one(now).since(last.map_or(&nothing, one)));
        }
        self.gauge(&format!("{app}.waiting"), now.waiting);
        let in_flight = now.replicas.iter().map(|replica| u64::from(replica.in_flight)).sum();
        self.gauge(&format!("{app}.in_flight"), in_flight);
        let up = now.replicas.iter().filter(|replica| replica.state == "up").count();
        self.gauge(&format!("{app}.replicas_up"), u64::try_from(up).unwrap_or(u64::MAX));
    }
}
