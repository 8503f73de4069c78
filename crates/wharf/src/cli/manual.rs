//! The manual page of the command line, made from its definition so that the two never differ.

use std::fmt::Write;

/// `docs/manual/cli.md`.
pub fn render() -> String {
    let definition = super::definition();
    let mut page = String::from(
        "# The command line\n\n\
         Made from `wharf --help`; change the definition in `crates/wharf/src/cli/`, not this page.\n\
         To renew it: `UPDATE_MANUAL=1 cargo test -p wharf manual`.\n\n\
         Data goes to stdout, all talk to stderr. Exit codes: 0 done, 1 it failed for a reason that is\n\
         named, 2 wrong usage, 3 our bug or a lost connection; `run` and `exec` pass on the command's own.\n",
    );
    let mut add = |name: &str, command: &clap::Command| {
        let help = plain(command);
        write!(page, "\n## {name}\n\n```text\n{}\n```\n", help.trim_end())
            .expect("a text takes all");
    };
    add("wharf", &definition);
    for command in definition.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = command.get_name().to_owned();
        let command = command.clone().bin_name(format!("wharf {name}"));
        add(&format!("wharf {name}"), &command);
    }
    page
}

fn plain(command: &clap::Command) -> String {
    let mut command = command.clone().term_width(80).color(clap::ColorChoice::Never);
    let help = command.render_help().to_string();
    help.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_manual_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/manual/cli.md");
        let page = super::render();
        if std::env::var_os("UPDATE_MANUAL").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/manual"))
                .unwrap();
            std::fs::write(path, &page).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            kept == page,
            "docs/manual/cli.md is out of date: UPDATE_MANUAL=1 cargo test -p wharf manual"
        );
    }
}
