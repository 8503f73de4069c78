//! What a person writes as a command, as a container starts it: without a shell where there is nothing for
//! one to do, and through one otherwise.

/// A command line as a shell takes it. `exec` makes the program itself get the signals.
pub fn shell(command: &str) -> Vec<String> {
    ["/bin/sh", "-c"].into_iter().map(str::to_owned).chain([command_line(command)]).collect()
}

/// The words a shell would make of a plain command: one program and its arguments, nothing in them that a
/// shell looks at but variables, and nothing in the values of those. A start without a shell is
/// quicker by its own boot.
pub fn direct(command: &str, env: &[(String, String)]) -> Option<Vec<String>> {
    let command = command.trim_matches([' ', '\t']);
    let command = command.strip_prefix("exec ").unwrap_or(command);
    let words = command.split([' ', '\t']).filter(|word| !word.is_empty());
    let words: Vec<String> = words.map(|word| expand(word, env)).collect::<Option<_>>()?;
    let program = words.first()?;
    (!program.contains('=') && !is_builtin(program)).then_some(words)
}

/// A word with its variables' values; None where a shell may make anything else of it.
fn expand(word: &str, env: &[(String, String)]) -> Option<String> {
    let mut parts = word.split('$');
    let mut expanded = parts.next()?.to_owned();
    for part in parts {
        let (name, rest) = match part.strip_prefix('{') {
            Some(braced) => braced.split_once('}')?,
            None => part.split_at(part.find(|c| !is_of_a_name(c)).unwrap_or(part.len())),
        };
        if name.starts_with(|c: char| !is_of_a_name(c) || c.is_ascii_digit()) {
            return None;
        }
        // An empty value may take its word along.
        let known = env.iter().find(|(key, value)| key == name && !value.is_empty());
        expanded.push_str(&known?.1);
        expanded.push_str(rest);
    }
    expanded.chars().all(is_plain).then_some(expanded)
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// What means itself to every shell, wherever in a word it stands.
fn is_plain(c: char) -> bool {
    is_of_a_name(c) || "-./:,@%+=".contains(c)
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

    #[test]
    fn a_plain_command_needs_no_shell_at_all() {
        let env = [("PORT", "8080"), ("NAME", "a b"), ("EMPTY", ""), ("GLOB", "*"), ("1", "x")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        for (command, words) in [
            (" node  server.js\t", "node server.js"),
            ("exec node --max=3 server.js", "node --max=3 server.js"),
            ("gunicorn app:app --bind 0.0.0.0:$PORT", "gunicorn app:app --bind 0.0.0.0:8080"),
            ("bin/x -p${PORT}1 $PORT.$PORT", "bin/x -p80801 8080.8080"),
        ] {
            assert_eq!(direct(command, &env).unwrap().join(" "), words);
        }
        for command in [
            "",
            "  ",
            "A=1 node x",
            "cd web",
            "node 'a b'",
            "node \"$PORT\"",
            "node a\\ b",
            "node $NAME",
            "node $EMPTY",
            "node $OTHER",
            "node $GLOB",
            "node $1",
            "node $$",
            "node $",
            "node ${PORT:-1}",
            "node ${PORT",
            "node $(date)",
            "node ~/x",
            "node *.js",
            "node [ab]",
            "node {a,b}",
            "node a\nnode b",
            "node # x",
            "node a\u{a0}b",
            "a && b",
            "a | b",
            "a > b",
        ] {
            assert_eq!(direct(command, &env), None, "{command:?}");
        }
    }
}
