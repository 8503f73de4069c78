//! A line's fields in one of two forms: `name=value` words, or one JSON object. A field that has nothing
//! to say is not written.

use crate::config::LogForm;

/// A field's name with all that stands around it, in both forms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    pub(super) logfmt: &'static str,
    pub(super) json: &'static str,
}

/// Makes one; what is added in JSON says the unit.
macro_rules! name {
    ($name:literal $(, $unit:literal)?) => {
        $crate::log::line::Name {
            logfmt: concat!(" ", $name, "="),
            json: concat!(",\"", $name, $($unit,)? "\":"),
        }
    };
}

pub(super) use name;

/// Writes one line's fields behind its source.
pub(super) struct Fields<'a> {
    line: &'a mut String,
    form: LogForm,
    is_first: bool,
}

impl<'a> Fields<'a> {
    pub(super) fn new(line: &'a mut String, form: LogForm) -> Self {
        if form == LogForm::Json {
            line.push_str(" {");
        }
        Self { line, form, is_first: true }
    }

    // What is known here is then written by a few moves instead of a copy's call.
    #[inline(always)]
    fn name(&mut self, name: Name) {
        match self.form {
            LogForm::Logfmt => self.line.push_str(name.logfmt),
            LogForm::Json => {
                let is_first = std::mem::replace(&mut self.is_first, false);
                self.line.push_str(&name.json[usize::from(is_first)..]);
            }
        }
    }

    /// A value of our own that is one word.
    #[inline(always)]
    pub(super) fn word(&mut self, name: Name, value: &str) {
        self.name(name);
        self.quote();
        self.line.push_str(value);
        self.quote();
    }

    /// The same in two parts.
    #[inline(always)]
    pub(super) fn words(&mut self, name: Name, parts: [&str; 2]) {
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

    #[inline(always)]
    pub(super) fn number(&mut self, name: Name, value: u64) {
        self.name(name);
        self.line.push_str(itoa::Buffer::new().format(value));
    }

    /// A duration: `12ms`, and for machines a plain number with a name that says so.
    #[inline(always)]
    pub(super) fn time(&mut self, name: Name, value: std::time::Duration) {
        let value = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
        match self.form {
            LogForm::Logfmt => self.words(name, [itoa::Buffer::new().format(value), "ms"]),
            LogForm::Json => self.number(name, value),
        }
    }

    /// Somebody else's value, kept inside its quotes.
    pub(super) fn text(&mut self, name: Name, parts: &[&str]) {
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
        let mut line = String::from("router");
        let mut fields = Fields::new(&mut line, form);
        fields.word(name!("at"), "info");
        fields.text(name!("path"), &["/a\"b\\", "\u{7}\n"]);
        fields.time(name!("first", "_ms"), std::time::Duration::from_millis(12));
        fields.number(name!("status"), 200);
        fields.end();
        line
    }

    #[test]
    fn both_forms_say_the_same_and_stay_one_line() {
        assert_eq!(
            line(LogForm::Logfmt),
            "router at=info path=\"/a\\\"b\\\\??\" first=12ms status=200\n"
        );
        let json: serde_json::Value =
            serde_json::from_str(&line(LogForm::Json)["router ".len()..]).unwrap();
        let expected = serde_json::json!({
            "at": "info", "path": "/a\"b\\??", "first_ms": 12, "status": 200,
        });
        assert_eq!(json, expected);
    }
}
