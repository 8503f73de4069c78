//! Metrics in Prometheus' text format 0.0.4: families with their help, samples with escaped labels. Knows
//! nothing of what is measured.

use std::fmt::{Display, Write as _};

use proxy::control::measures::{BOUNDS_US, Spread};

/// The content type of the text.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Labels of a sample, in order.
pub(super) type Labels<'a> = [(&'a str, &'a str)];

/// A text being written.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    /// Begins a family; `help` is one sentence.
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// One sample of the family that was begun last.
    pub(super) fn sample(&mut self, name: &str, labels: &Labels<'_>, value: impl Display) {
        self.0.push_str(name);
        self.labels(labels, None);
        self.line(format_args!(" {value}"));
    }

    /// A histogram's samples, in seconds.
    pub(super) fn histogram(&mut self, name: &str, labels: &Labels<'_>, spread: &Spread) {
        let mut total = 0;
        let bounds = BOUNDS_US.iter().map(|bound| seconds(*bound)).chain(["+Inf".to_owned()]);
        let counts = spread.counts.iter().copied().chain(std::iter::repeat(0));
        for (bound, count) in bounds.zip(counts) {
            total += count;
            self.0.push_str(name);
            self.0.push_str("_bucket");
            self.labels(labels, Some(&bound));
            self.line(format_args!(" {total}"));
        }
        self.sample(&format!("{name}_sum"), labels, seconds(spread.sum_us));
        self.sample(&format!("{name}_count"), labels, total);
    }

    pub(super) fn end(self) -> String {
        self.0
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("writing into a String cannot fail");
        self.0.push('\n');
    }

    fn labels(&mut self, labels: &Labels<'_>, bound: Option<&str>) {
        let all = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let mut opening = '{';
        for (name, value) in all {
            self.0.push(opening);
            self.0.push_str(name);
            self.0.push_str("=\"");
            for character in value.chars() {
                match character {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
            opening = ',';
        }
        if opening == ',' {
            self.0.push('}');
        }
    }
}

/// Microseconds as seconds, without a float's noise.
fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_reads_as_prometheus_has_it() {
        let mut text = Text::default();
        text.family("wharf_requests_total", "counter", "Requests.");
        text.sample("wharf_requests_total", &[("app", "a\"b\\c\nd"), ("class", "2xx")], 7);
        text.family("wharf_up", "gauge", "Up.");
        text.sample("wharf_up", &[], 1);
        insta::assert_snapshot!(text.end(), @r#"
        # HELP wharf_requests_total Requests.
        # TYPE wharf_requests_total counter
        wharf_requests_total{app="a\"b\\c\nd",class="2xx"} 7
        # HELP wharf_up Up.
        # TYPE wharf_up gauge
        wharf_up 1
        "#);
    }

    #[test]
    fn a_histogram_adds_up() {
        let mut counts = vec![0; BOUNDS_US.len() + 1];
        (counts[0], counts[3], counts[15]) = (2, 1, 1);
        let mut text = Text::default();
        text.histogram("x_seconds", &[("app", "a")], &Spread { counts, sum_us: 40_500_000 });
        let text = text.end();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "x_seconds_bucket{app=\"a\",le=\"0.0005\"} 2");
        assert_eq!(lines[3], "x_seconds_bucket{app=\"a\",le=\"0.005\"} 3");
        assert_eq!(lines[14], "x_seconds_bucket{app=\"a\",le=\"30\"} 3");
        assert_eq!(lines[15], "x_seconds_bucket{app=\"a\",le=\"+Inf\"} 4");
        assert_eq!(&lines[16..], ["x_seconds_sum{app=\"a\"} 40.5", "x_seconds_count{app=\"a\"} 4"]);
    }

    #[test]
    fn seconds_are_exact() {
        for (us, text) in [(0, "0"), (500, "0.0005"), (2_500_000, "2.5"), (30_000_000, "30")] {
            assert_eq!(seconds(us), text);
        }
    }
}
