use super::*;

fn parsed(text: &str) -> Vec<(String, String)> {
    let processes = parse_procfile(text).unwrap();
    processes.into_iter().map(|(name, command)| (name.to_string(), command)).collect()
}

#[test]
fn types_and_commands_are_read() {
    let text = "\u{feff}# the shop\n\nweb: node server.js --port $PORT\r\n  worker : ./work 'a # b' # comment\n// old\nrelease: a:b#c\n";
    let expected = [
        ("release", "a:b#c"),
        ("web", "node server.js --port $PORT"),
        ("worker", "./work 'a # b'"),
    ];
    assert_eq!(parsed(text), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
}

#[test]
fn every_bad_line_is_named_with_its_number() {
    let text = "web: a\n<<<<<<< HEAD\nnode server.js\nweb: b\n=======\nwor ker: c\nx:\n>>>>>>> main\ny: a\u{1b}[0m\n";
    let mistakes = parse_procfile(text).unwrap_err();
    insta::assert_snapshot!(problem(&mistakes).to_string().replace("; ", "\n  "), @r"
    error[P002]: the Procfile has 8 lines that cannot be read
      why:   line 2: a merge left its marker here (`<<<<<<< HEAD`)
      line 3: a line is `type: command` (`node server.js`)
      line 4: the process type was given on line 1 already (`web: b`)
      line 5: a merge left its marker here (`=======`)
      line 6: a process type is 1 to 63 characters of a-z, A-Z, 0-9, - and _, starting and ending with a letter or digit (`wor ker: c`)
      line 7: there is no command after the colon (`x:`)
      line 8: a merge left its marker here (`>>>>>>> main`)
      line 9: there is a control character in it (`y: a�[0m`)
      next:  mend the Procfile, one `type: command` a line, commit and push again
             wharf explain P002
    ");
}

#[test]
fn a_file_that_says_nothing_is_a_mistake() {
    assert_eq!(parse_procfile("# nothing\n").unwrap_err()[0].rule, ProcfileRule::Empty);
    assert_eq!(parse_procfile("").unwrap_err()[0].rule, ProcfileRule::Empty);
}

#[test]
fn a_long_bad_line_is_cut_for_the_reader() {
    let mistakes = parse_procfile(&"ä".repeat(200)).unwrap_err();
    assert_eq!(mistakes[0].text.chars().count(), 81);
}
