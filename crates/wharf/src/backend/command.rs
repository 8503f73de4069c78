//! What a person writes as a command, as a container starts it: through a shell, and without one in
//! between where there need be none.

/// A command line as a shell takes it. `exec` makes the program itself get the signals.
pub fn shell(command: &str) -> Vec<String> {
    ["/bin/sh", "-c"].into_iter().map(str::to_owned).chain([command_line(command)]).collect()
}

/// `exec` in front of a simple command; one with shell operators is left alone.
fn command_line(command: &str) -> String {
    let is_simple = !command.contains(['|', '&', ';', '<', '>', '(', ')', '`', '\n', '{', '}'])
        && !command.trim_start().starts_with("exec ")
        && !command.split_whitespace().next().is_none_or(|first| first.contains('='));
    let command = command.trim();
    if is_simple && !is_builtin(command) { format!("exec {command}") } else { command.to_owned() }
}

/// Words that only a shell itself knows.
fn is_builtin(command: &str) -> bool {
    let first = command.split_whitespace().next().unwrap_or_default();
    [
        "cd", "export", "set", "if", "for", "while", "case", "until", "exit", ".", ":", "trap",
        "eval", "read", "test", "[", "umask", "ulimit", "unset", "!",
    ]
    .contains(&first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simple_command_is_the_program_itself_so_that_it_gets_the_signals() {
        for (command, line) in [
            ("node server.js", "exec node server.js"),
            ("gunicorn app:app --bind 0.0.0.0:$PORT", "exec gunicorn app:app --bind 0.0.0.0:$PORT"),
            ("A=1 node server.js", "A=1 node server.js"),
            ("cd web && node server.js", "cd web && node server.js"),
            ("exec node x", "exec node x"),
            ("echo a | cat", "echo a | cat"),
            ("if true", "if true"),
        ] {
            assert_eq!(command_line(command), line);
        }
    }
}
