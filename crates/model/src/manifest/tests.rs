use super::*;
use crate::size::ByteSize;

#[test]
fn the_whole_file_is_read() {
    let manifest = parse_manifest(
        r#"
        port = 3000
        protocol = "h2c"
        grace = "20s"
        drain = "500ms"
        read_only = true
        [health]
        path = "/healthz?deep=1"
        deadline = "2m"
        [processes]
        web = "node ."
        [build]
        command = "make"
        [static]
        root = "public"
        fallback = "index.html"
        [limits.web]
        memory = "256M"
        cpu = 0.5
        [limits.worker]
        cpu = 2
        [balance]
        method = "least-connections"
        sticky = "cookie"
        concurrency = 20
        retry = [503]
        slow_start = "10s"
        check_path = "/up"
        [domains]
        ask = "/knows-host"
        [[routes]]
        path = "/api"
        strip = true
        [[routes]]
        redirect = "https"
        "#,
    )
    .unwrap();
    assert_eq!(manifest.port, Some(3000));
    assert_eq!(manifest.grace, Some(Duration::from_secs(20)));
    let run = manifest.run_settings();
    assert_eq!(run.protocol, Protocol::H2c);
    assert_eq!(run.drain_timeout, Duration::from_millis(500));
    assert_eq!(run.boot_timeout, Duration::from_secs(120));
    assert!(run.is_read_only);
    assert_eq!(manifest.routes.len(), 2);
    assert_eq!(manifest.domains.ask, Some("/knows-host".parse().unwrap()));
    let balance = manifest.balance.settings();
    assert_eq!((balance.concurrency, balance.queue), (Some(20), 1000));
    assert_eq!(balance.check.unwrap().every, Duration::from_secs(5));
    assert_eq!(manifest.processes[&ProcessType::web()], "node .");
    assert_eq!(manifest.process_limits(&ProcessType::web()).memory, ByteSize::mib(256));
    assert_eq!(manifest.limits[&ProcessType::web()].cpu_millis, Some(500));
    let json = serde_json::to_string(&manifest).unwrap();
    assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
}

#[test]
fn an_empty_file_says_nothing() {
    assert_eq!(parse_manifest("").unwrap(), Manifest::default());
}

#[test]
fn mistakes_name_their_line_and_rule() {
    let cases = [
        "port = 80\nprot = 1",
        "port = 70000",
        "port = ",
        "protocol = \"h2\"",
        "grace = \"soon\"",
        "grace = \"0s\"",
        "[health]\npath = \"healthz\"",
        "[static]\nroot = \"../etc\"",
        "[limits.web]\nmemory = \"lots\"",
        "[limits.web]\nmemory = \"10K\"",
        "[limits.web]\ncpu = 0",
        "[processes]\n\"we b\" = \"x\"",
        "a = 1\n\n[[",
        "[[routes]]\npath = \"/a\"\n[[routes]]\nhost = \"*x\"",
        "port = 1\n\n[[routes]]\nstatus = 301",
        "[balance]\nmethod = \"random\"",
        "[balance]\nconcurrency = 0",
        "[balance]\neject_most = 101",
        "[balance]\nretry = [404]",
        "[domains]\nask = \"knows\"",
        "port = 1\n[[routes]]\npath = \"/a\"\n[[routes]]\npath = \"/a/\"",
    ];
    let mut shown = String::new();
    for text in cases {
        let mistake = parse_manifest(text).unwrap_err();
        shown += &format!("{} | {} | {}\n", mistake.line, mistake.text, mistake.why);
    }
    insta::assert_snapshot!(shown, @r#"
    2 | prot = 1 | unknown field `prot`, expected one of `port`, `protocol`, `grace`, `drain`, `read_only`, `health`, `processes`, `build`, `release`, `static`, `limits`, `balance`, `edge`, `sleep`, `domains`, `routes`, `volumes`, `uses`
    1 | port = 70000 | invalid value: integer `70000`, expected u16
    1 | port = | string values must be quoted, expected literal string
    1 | protocol = "h2" | unknown variant `h2`, expected `http1` or `h2c`
    1 | grace = "soon" | `soon` is not a duration: a whole number and ms, s, m or h, at least 1ms
    1 | grace = "0s" | `0s` is not a duration: a whole number and ms, s, m or h, at least 1ms
    2 | path = "healthz" | `healthz` is not a path: it starts with / and has no space or #
    2 | root = "../etc" | `../etc` does not stay within the source: a relative path without `..`
    2 | memory = "lots" | `lots` is not a size: a whole number, then nothing, K, M, G or KiB, MiB, GiB
    2 | memory = "10K" | a limit is at least 1M, not `10K`
    2 | cpu = 0 | cpu is 0.01 to 1024 cores, not 0
    2 | "we b" = "x" | `we b` is not a process type: 1 to 63 characters of a-z, A-Z, 0-9, - and _, starting and ending with a letter or digit
    3 | [[ | unquoted keys cannot be empty, expected letters, numbers, `-`, `_`
    4 | host = "*x" | `*x` is not a host: a host name in lower case, `*.` and a host name, or `*` for every host
    3 | [[routes]] | `status` is a redirect's, and this route has no `redirect`
    2 | method = "random" | unknown variant `random`, expected one of `latency`, `least-connections`, `round-robin`
    2 | concurrency = 0 | a replica gets at least 1 request at once, not 0
    2 | eject_most = 101 | 0 to 100 percent, not 101
    2 | retry = [404] | what may be tried elsewhere is 500, 502, 503 and 504, not 404
    2 | ask = "knows" | `knows` is not where to ask: a path of the app that starts with /, or an `http://` or `https://` URL; at most 2000 characters, none of them a space or #
    2 | [[routes]] | two routes are for `…/a`
    "#);
}

#[test]
fn the_problem_shows_the_line() {
    let problem = parse_manifest("port = 80\nprot = 1").unwrap_err().problem();
    assert!(problem.what.contains("line 2: `prot = 1`"), "{problem}");
}
