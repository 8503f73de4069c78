//! A line's fields in one of two forms: `name=value` words, or one JSON object. A field that has nothing
//! to say is not written.

use crate::config::LogForm;

/// Writes one line's fields.
pub(super) struct Fields<'a> {
    line: &'a mut String,
    form: LogForm,
    is_first: bool,
}

impl<'a> Fields<'a> {
    pub(super) fn new(line: &'a mut String, form: LogForm) -> Self {
        if form == LogForm::Json {
            line.push('{');
        }
        Self { line, form, is_first: true }
    }

    #[inline]
    fn name(&mut self, name: &str) {
        let is_first = std::mem::replace(&mut self.is_first, false);
        match self.form {
            LogForm::Logfmt => {
                if !is_first {
                    self.line.push(' ');
                }
                self.line.push_str(name);
                self.line.push('=');
            }
            LogForm::Json => {
                self.line.push_str(if is_first { "\"" } else { ",\"" });
                self.line.push_str(name);
                self.line.push_str("\":");
            }
        }
    }

    /// A value of our own that is one word.
    #[inline]
    pub(super) fn word(&mut self, name: &str, value: &str) {
        self.name(name);
        self.quote();
        self.line.push_str(value);
        self.quote();
    }

    /// The same in two parts.
    pub(super) fn words(&mut self, name: &str, parts: [&str; 2]) {
        self.name(name);
        self.quote();
        self.line.push_str(parts[0]);
        self.line.push_str(parts[1]);
        self.quote();
    }

    fn quote(&mut self) {
        if self.form == LogForm::Json {
            self.line.push('"');
        }
    }

    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        self.line.push_str(itoa::Buffer::new().format(value));
    }

    /// A duration: `12ms`, and a plain number named `…_ms` for machines.
    pub(super) fn time(&mut self, name: &str, value: std::time::Duration) {
        let value = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
        match self.form {
            LogForm::Logfmt => self.words(name, [itoa::Buffer::new().format(value), "ms"]),
            LogForm::Json => self.number(&format!("{name}_ms"), value),
        }
    }

    /// Somebody else's value, kept inside its quotes.
    pub(super) fn text(&mut self, name: &str, parts: &[&str]) {
        self.name(name);
        self.line.push('"');
        parts.iter().for_each(|part| escape(self.line, part));
        self.line.push('"');
    }

    pub(super) fn end(self) {
        self.line.push_str(if self.form == LogForm::Json { "}\n" } else { "\n" });
    }
}

/// Keeps a value inside its quotes and the line one line; sound in both forms.
fn escape(line: &mut String, text: &str) {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        line.push_str(text);
        return;
    }
    for character in text.chars() {
        match character {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            control if control.is_control() => line.push('?'),
            ordinary => line.push(ordinary),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(form: LogForm) -> String {
        let mut line = String::new();
        let mut fields = Fields::new(&mut line, form);
        fields.word("at", "info");
        fields.text("path", &["/a\"b\\", "\u{7}\n"]);
        fields.time("first", std::time::Duration::from_millis(12));
        fields.number("status", 200);
        fields.end();
        line
    }

    #[test]
    fn both_forms_say_the_same_and_stay_one_line() {
        assert_eq!(line(LogForm::Logfmt), "at=info path=\"/a\\\"b\\\\??\" first=12ms status=200\n");
        let json: serde_json::Value = serde_json::from_str(&line(LogForm::Json)).unwrap();
        let expected = serde_json::json!({
            "at": "info", "path": "/a\"b\\??", "first_ms": 12, "status": 200,
        });
        assert_eq!(json, expected);
    }
}
