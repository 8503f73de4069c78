//! Text laid out for people: aligned columns that fit 80, and times as distances. Pure.

use jiff::Timestamp;

const WIDTH: usize = 80;
const GAP: usize = 2;

/// Rows as aligned lines. When they would pass 80 columns, the widest column is cut with `…`.
pub(super) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = vec![0; columns];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let total = widths.iter().sum::<usize>() + GAP * columns.saturating_sub(1);
    if let Some(widest) = widths.iter_mut().max() {
        *widest = widest.saturating_sub(total.saturating_sub(WIDTH)).max(10.min(*widest));
    }
    rows.iter()
        .map(|row| {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let cell = shorten(cell, *width);
                line.push_str(&cell);
                line.push_str(&" ".repeat(width - cell.chars().count() + GAP));
            }
            line.trim_end().to_owned()
        })
        .collect()
}

/// At most so many characters, the last one `…` if something is missing.
pub(super) fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// `2026/11/21 10:01:12 (~ 4m ago)`, as Heroku's fingers know it; UTC.
pub(super) fn moment(at: Timestamp, now: Timestamp) -> String {
    format!("{} (~ {})", at.strftime("%Y/%m/%d %H:%M:%S"), ago(at, now))
}

/// `4m ago`.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = (now.as_second() - at.as_second()).max(0);
    match seconds {
        0..60 => format!("{seconds}s ago"),
        60..3600 => format!("{}m ago", seconds / 60),
        3600..86_400 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// A time for `--since`: RFC 3339, or a distance back: `90s`, `10m`, `2h`, `3d`.
pub(super) fn parse_since(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let unit = text.chars().last()?;
    let number: i64 = text[..text.len() - unit.len_utf8()].parse().ok()?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let seconds = now.as_second().checked_sub(number.checked_mul(factor)?)?;
    (number >= 0).then(|| Timestamp::from_second(seconds).ok())?
}

/// `1 process`, `2 processes`.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_fit() {
        let rows = vec![
            vec!["v13".into(), "Deploy 4f2c91a".into(), "2m ago".into()],
            vec!["v2".into(), "x".repeat(100), "1h ago".into()],
        ];
        let lines = table(&rows);
        assert_eq!(lines[0].find("2m ago"), lines[0].len().checked_sub(6));
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:?}");
        assert!(lines[1].contains('…') && lines[1].ends_with("1h ago"));
        assert_eq!(table(&[]), Vec::<String>::new());
    }

    #[test]
    fn times_are_distances() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(moment(at("2026-11-21T09:56:00Z"), now), "2026/11/21 09:56:00 (~ 4m ago)");
        assert_eq!(ago(at("2026-11-18T09:56:00Z"), now), "3d ago");
        assert_eq!(ago(at("2026-11-21T10:00:05Z"), now), "0s ago");
        assert_eq!(parse_since("10m", now), Some(at("2026-11-21T09:50:00Z")));
        assert_eq!(parse_since("2026-11-21T09:00:00Z", now), Some(at("2026-11-21T09:00:00Z")));
        for bad in ["", "m", "10", "10x", "-5m", "99999999999999999d", "5µ"] {
            assert_eq!(parse_since(bad, now), None, "{bad}");
        }
    }
}
