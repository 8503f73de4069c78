//! The definition as a whole.

use super::*;

fn joined(line: &str) -> String {
    let words = join_words(line.split(' ').map(OsString::from).collect());
    words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_definition_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn spaced_words_become_the_colon_name() {
    assert_eq!(joined("wharf config set A=b"), "wharf config:set A=b");
    assert_eq!(joined("wharf -a shop ps scale web=2"), "wharf -a shop ps:scale web=2");
    assert_eq!(joined("wharf logs -t"), "wharf logs -t");
    assert_eq!(joined("wharf info set"), "wharf info set");
    assert_eq!(joined("wharf run config set"), "wharf run config set");
}

#[test]
fn every_command_has_examples() {
    for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.starts_with("Examples:\n  wharf "), "{}", command.get_name());
    }
}
