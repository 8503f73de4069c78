//! The table: what an image says, what is run and done to it. A case whose outcome is meant to differ says
//! why.

/// What is done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing: it ends by itself.
    Run,
    /// The same on a terminal.
    Terminal,
    /// Once it has said `up`, it is sent that signal.
    Signal(i32),
    /// Once it has said `up`, it is stopped as `docker stop` stops.
    Stop,
}

/// One row.
#[derive(Debug)]
pub(super) struct Case {
    /// The image's fields this is about.
    pub(super) field: &'static str,
    pub(super) what: &'static str,
    /// The image's `config`, as JSON; `{}` where the script below is all there is.
    pub(super) config: &'static str,
    /// Given instead of the image's `Cmd`; with one word, as a script to a shell.
    pub(super) args: &'static [&'static str],
    pub(super) env: &'static [(&'static str, &'static str)],
    pub(super) act: Act,
    /// Docker is asked for an init of its own.
    pub(super) has_init: bool,
    /// Why Wharf does otherwise.
    pub(super) otherwise: Option<&'static str>,
}

const fn case(
    field: &'static str,
    what: &'static str,
    config: &'static str,
    args: &'static [&'static str],
) -> Case {
    Case { field, what, config, args, env: &[], act: Act::Run, has_init: true, otherwise: None }
}

const fn script(field: &'static str, what: &'static str, script: &'static [&'static str]) -> Case {
    case(field, what, "{}", script)
}

const USERS: &str = "id -u; id -g; echo $HOME";
const WAITS: &str = "echo up; while :; do sleep 0.02; done";

/// All rows.
pub(super) const CASES: &[Case] = &[
    case("Cmd", "is the command", r#"{"Cmd":["echo","one"]}"#, &[]),
    case("Cmd", "gives way to arguments", r#"{"Cmd":["false"]}"#, &["echo", "two"]),
    case(
        "Cmd",
        "keeps words, spaces and empty ones",
        r#"{"Cmd":["printf","[%s]","a b","","c\nd"]}"#,
        &[],
    ),
    case("Cmd", "none, and no arguments", r#"{"Cmd":null}"#, &[]),
    case(
        "Cmd",
        "a path from the working folder",
        r#"{"Cmd":["./tool.sh"],"WorkingDir":"/app"}"#,
        &[],
    ),
    case(
        "Entrypoint",
        "comes before Cmd",
        r#"{"Entrypoint":["/bin/sh","-c"],"Cmd":["echo three"]}"#,
        &[],
    ),
    case(
        "Entrypoint",
        "stays before arguments",
        r#"{"Entrypoint":["echo"],"Cmd":["x"]}"#,
        &["a", "b"],
    ),
    case("Entrypoint", "alone", r#"{"Entrypoint":["echo","four"]}"#, &[]),
    case(
        "Env",
        "is the environment, with PATH and HOME",
        r#"{"Env":["A=1","B=two words","C="]}"#,
        &["env | grep -v HOSTNAME= | grep -vE '^(PWD|SHLVL|OLDPWD)=' | sort"],
    ),
    Case {
        env: &[("B", "3"), ("D", "4")],
        ..case(
            "Env",
            "gives way to what is asked for",
            r#"{"Env":["A=1","B=2"]}"#,
            &["env | grep -E '^[A-D]=' | sort"],
        )
    },
    case(
        "Env",
        "PATH says where programs are",
        r#"{"Env":["PATH=/app:/bin"],"Cmd":["tool.sh"]}"#,
        &[],
    ),
    Case {
        otherwise: Some(
            "a replica's name is in `DYNO` and `WHARF_REPLICA`; the host name is a file and a call",
        ),
        ..script("Env", "HOSTNAME", &["env | grep -c ^HOSTNAME="])
    },
    case("WorkingDir", "is where it begins", r#"{"WorkingDir":"/app"}"#, &["pwd"]),
    script("WorkingDir", "none", &["pwd"]),
    case(
        "WorkingDir",
        "is made where it is missing",
        r#"{"WorkingDir":"/made/deep"}"#,
        &["pwd; stat -c '%u %g %a' /made /made/deep"],
    ),
    case(
        "WorkingDir",
        "is made for a user, too, who may not write there",
        r#"{"WorkingDir":"/made","User":"app"}"#,
        &["pwd; touch x 2>/dev/null || echo refused"],
    ),
    case("WorkingDir", "below /tmp", r#"{"WorkingDir":"/tmp/deep"}"#, &["pwd"]),
    case(
        "WorkingDir",
        "through a link of the image",
        r#"{"WorkingDir":"/link/below"}"#,
        &["pwd -P"],
    ),
    script("User", "none", &[USERS]),
    case("User", "by name", r#"{"User":"app"}"#, &[USERS]),
    case("User", "by number with an entry", r#"{"User":"1000"}"#, &[USERS]),
    case("User", "by number without an entry", r#"{"User":"4242"}"#, &[USERS]),
    case("User", "number and group", r#"{"User":"1000:7"}"#, &[USERS]),
    case("User", "name and group by name", r#"{"User":"app:staff"}"#, &[USERS]),
    case("User", "that the image does not have", r#"{"User":"somebody"}"#, &[USERS]),
    case("User", "of a group the image does not have", r#"{"User":"app:somebodies"}"#, &[USERS]),
    Case {
        otherwise: Some(
            "a process has one group and no others: none that an image's /etc/group could grant",
        ),
        ..case("User", "further groups", r#"{"User":"app"}"#, &["id -G"])
    },
    script("exit", "0", &["true"]),
    script("exit", "1", &["false"]),
    script("exit", "another one", &["exit 42"]),
    script("exit", "killed by its own hand", &["kill -KILL $$"]),
    script("exit", "ended by a signal that nobody handles", &["kill -TERM $$"]),
    case("exit", "no such program", r#"{"Cmd":["no-such-thing"]}"#, &[]),
    case("exit", "no such file", r#"{"Cmd":["/no/such/thing"]}"#, &[]),
    case("exit", "not executable", r#"{"Cmd":["/app/plain"]}"#, &[]),
    case("exit", "a folder", r#"{"Cmd":["/app"]}"#, &[]),
    case("exit", "its interpreter is missing", r#"{"Cmd":["/app/lost.sh"]}"#, &[]),
    script("exit", "children it leaves end with it", &["sleep 1000 & exit 5"]),
    Case { act: Act::Signal(15), ..script("signal", "TERM, without a handler", &[WAITS]) },
    Case { act: Act::Signal(2), ..script("signal", "INT, without a handler", &[WAITS]) },
    Case { act: Act::Signal(1), ..script("signal", "HUP, without a handler", &[WAITS]) },
    Case { act: Act::Signal(10), ..script("signal", "USR1, without a handler", &[WAITS]) },
    Case { act: Act::Signal(14), ..script("signal", "ALRM, without a handler", &[WAITS]) },
    Case { act: Act::Signal(9), ..script("signal", "KILL", &[WAITS]) },
    Case {
        act: Act::Signal(15),
        ..script(
            "signal",
            "TERM, handled",
            &["trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.02; done"],
        )
    },
    Case {
        act: Act::Signal(12),
        ..script(
            "signal",
            "USR2, handled",
            &["trap 'echo two; exit 4' USR2; echo up; while :; do sleep 0.02; done"],
        )
    },
    Case {
        act: Act::Stop,
        has_init: false,
        otherwise: Some(
            "PID 1 is Wharf's own init, as with `docker run --init`: TERM ends a program that knows nothing of it",
        ),
        ..script("signal", "stop of one that does not handle TERM", &[WAITS])
    },
    Case {
        act: Act::Stop,
        ..script(
            "StopSignal",
            "none: TERM, then KILL",
            &["trap 'echo no' TERM; echo up; while :; do sleep 0.02; done"],
        )
    },
    Case {
        act: Act::Stop,
        ..case(
            "StopSignal",
            "by name",
            r#"{"StopSignal":"SIGQUIT"}"#,
            &[
                "trap 'echo quit; exit 6' QUIT; trap 'exit 7' TERM; echo up; while :; do sleep 0.02; done",
            ],
        )
    },
    Case {
        act: Act::Stop,
        ..case(
            "StopSignal",
            "by number",
            r#"{"StopSignal":"10"}"#,
            &[
                "trap 'echo usr1; exit 8' USR1; trap 'exit 7' TERM; echo up; while :; do sleep 0.02; done",
            ],
        )
    },
    script(
        "descriptors",
        "are three, beside the folder that is read",
        &["ls /proc/self/fd | wc -l"],
    ),
    script(
        "descriptors",
        "stdin is empty, the others are pipes",
        &[
            "readlink /proc/self/fd/0; readlink /proc/$$/fd/1 | cut -d: -f1; readlink /proc/$$/fd/2 | cut -d: -f1",
        ],
    ),
    script("descriptors", "reading stdin ends at once", &["wc -c"]),
    script(
        "descriptors",
        "can be opened by name",
        &["echo out > /dev/stdout; cat /dev/stdin; echo fine"],
    ),
    script("process", "umask", &["umask"]),
    case(
        "process",
        "no signal is blocked or ignored",
        // One of the C library's own may be ignored where the test itself was started so.
        r#"{"Cmd":["grep","-cE","Sig(Blk|Ign):.0{8}[08]0{7}$","/proc/self/status"]}"#,
        &[],
    ),
    script(
        "process",
        "orphans are reaped",
        &["for i in 1 2 3; do (true &); done; sleep 0.1; ps -o stat | grep -c Z"],
    ),
    Case {
        has_init: false,
        ..script(
            "process",
            "leads a session of its own",
            &["set -- $(cut -d' ' -f1,5,6 /proc/$$/stat); [ $1 = $2 ] && [ $1 = $3 ] && echo yes"],
        )
    },
    Case {
        has_init: false,
        ..script(
            "process",
            "is not first to be killed for memory",
            &["cat /proc/self/oom_score_adj"],
        )
    },
    Case {
        otherwise: Some(
            "no capability at all for an app, seven for root in a build, and no way to gain one",
        ),
        ..script(
            "process",
            "capabilities and new privileges",
            &["grep -E 'CapEff|NoNewPrivs' /proc/self/status"],
        )
    },
    script("process", "system calls are filtered", &["grep Seccomp: /proc/self/status"]),
    script("host name", "is what was asked for", &["hostname; cat /etc/hostname"]),
    script("devices", "are these", &["ls /dev | grep -vE '^(core|kcore)$'"]),
    Case {
        act: Act::Terminal,
        ..script(
            "terminal",
            "three streams are one, and TERM is xterm",
            &["[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo $TERM"],
        )
    },
    Case {
        act: Act::Terminal,
        otherwise: Some(
            "the terminal is one of the machine's, handed in: it works, `/dev/tty` is it, and it has no name inside",
        ),
        ..script("terminal", "has a name", &["tty"])
    },
    Case {
        act: Act::Terminal,
        ..script("terminal", "is the controlling one", &["echo hello > /dev/tty"])
    },
    case(
        "Volumes",
        "what the image has there is there, and can be changed",
        r#"{"Volumes":{"/data":{}}}"#,
        &["cat /data/seed; echo new > /data/seed; cat /data/seed"],
    ),
    Case {
        otherwise: Some(
            "a volume has a name and is said in the app file; what an image calls one goes with the replica",
        ),
        ..case(
            "Volumes",
            "are mounts",
            r#"{"Volumes":{"/data":{}}}"#,
            &["grep -c ' /data ' /proc/mounts"],
        )
    },
    case("ExposedPorts", "open nothing", r#"{"ExposedPorts":{"80/tcp":{}}}"#, &["echo fine"]),
    case("Labels", "are not seen inside", r#"{"Labels":{"a":"b"}}"#, &["env | grep -c ^a="]),
    case(
        "Healthcheck",
        "is not seen inside",
        r#"{"Healthcheck":{"Test":["CMD","false"],"Interval":1000000000}}"#,
        &["sleep 0.1; echo fine"],
    ),
    case(
        "Shell, OnBuild",
        "are for builds",
        r#"{"Shell":["/bin/false"],"OnBuild":["RUN false"]}"#,
        &["echo fine"],
    ),
];
