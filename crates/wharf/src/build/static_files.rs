//! Static sites: files, served by a copy of this very program inside the container.
//!
//! The copy is a layer of its own, keyed by the program's digest, so that the image stays whole when
//! Wharf is upgraded. A site that has a package.json with a build script is built first.

use model::manifest::is_inner_path;
use model::problem::{Code, Problem};

use super::draft::Draft;
use super::node;

/// Where the program is in the image.
const PROGRAM: &str = "/opt/wharf/bin/wharf";

/// Adds the layers; the command of `web`.
pub(super) fn plan(draft: &mut Draft<'_>) -> Result<Option<String>, Problem> {
    let file = parse_staticfile(draft.at.source.text("Staticfile").unwrap_or_default())?;
    let declared = draft.at.manifest.static_site.clone().unwrap_or_default();
    let root = declared.root.or(file.root).unwrap_or_else(|| {
        let has_public = !draft.at.source.has("index.html") && draft.at.source.has("public/");
        if has_public { "public".to_owned() } else { ".".to_owned() }
    });
    let fallback = declared.fallback.or(file.fallback);
    draft.program(PROGRAM);
    if draft.at.source.has("package.json") {
        // Its command is not of interest: the files it makes are.
        node::plan(draft)?;
    } else {
        draft.source();
        if let Some(command) = draft.at.manifest.build.command.clone() {
            use super::plan::LayerName::{Base, Source};
            draft.build_step(&command, &[Base, Source], &[]);
        }
    }
    let fallback =
        fallback.map(|file| format!(" --fallback {}", quoted(&file))).unwrap_or_default();
    Ok(Some(format!("{PROGRAM} static --root {} --port $PORT{fallback}", quoted(&root))))
}

#[derive(Debug, Default, PartialEq)]
struct Staticfile {
    root: Option<String>,
    fallback: Option<String>,
}

/// `root: dist` and `index_fallback: index.html`, a line each.
fn parse_staticfile(text: &str) -> Result<Staticfile, Problem> {
    let mut file = Staticfile::default();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |why: String| {
            Problem::new(
                Code::AppFileBroken,
                format!("`Staticfile` has a mistake on line {}: `{line}`", number + 1),
            )
            .why(why)
            .next("mend `Staticfile`, commit and push again")
        };
        let (name, value) = line.split_once(':').ok_or_else(|| {
            wrong("a line is `root: folder` or `index_fallback: file`".to_owned())
        })?;
        let value = value.trim();
        let value = match (name.trim(), value) {
            ("index_fallback", "true") => "index.html",
            ("index_fallback", "false") => continue,
            (_, value) => value,
        };
        if !is_inner_path(value) {
            return Err(wrong(format!("`{value}` is not a relative path without `..`")));
        }
        match name.trim() {
            "root" => file.root = Some(value.to_owned()),
            "index_fallback" => file.fallback = Some(value.to_owned()),
            name => {
                return Err(wrong(format!("`{name}` is neither `root` nor `index_fallback`")));
            }
        }
    }
    Ok(file)
}

/// For the shell that reads the command.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
