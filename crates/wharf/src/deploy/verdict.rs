//! A deploy that failed, as a letter to its owner: pure.

use model::name::AppName;
use model::plan::Place;
use model::problem::{Code, Problem};
use model::release::Release;
use model::replica::{EndingKind, Unhealthy, replica_name};
use model::size::ByteSize;

use super::replica::port_of;

/// What is known of the failure.
#[derive(Debug, Clone)]
pub(super) struct Failure<'a> {
    pub(super) app: &'a AppName,
    pub(super) release: &'a Release,
    pub(super) place: &'a Place,
    pub(super) cause: &'a EndingKind,
    /// The release number that goes on serving.
    pub(super) serving: Option<u64>,
    pub(super) changed: Changed,
    /// It was ended first, since two may not write to a volume at once.
    pub(super) has_given_way: bool,
    /// The last lines the replica printed.
    pub(super) log: Vec<String>,
}

/// What a release has otherwise than the one that serves, by who is to mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    /// What was pushed; or nothing serves.
    Image,
    /// Config vars alone.
    Config,
    /// Only what its processes get: sizes, volumes.
    Bounds,
    /// Nothing: it was to be started afresh.
    Nothing,
}

impl Changed {
    pub(super) fn between(serving: Option<&Release>, release: &Release) -> Self {
        let Some(serving) = serving else { return Self::Image };
        if serving.version == release.version {
            Self::Nothing
        } else if serving.image != release.image || serving.commit != release.commit {
            Self::Image
        } else if serving.config != release.config {
            Self::Config
        } else {
            Self::Bounds
        }
    }
}

/// Writes the letter.
pub(super) fn problem_of(failure: &Failure<'_>) -> Problem {
    let Failure { app, release, place, cause, serving, has_given_way, log, .. } = failure;
    let name = replica_name(&place.process, place.index);
    let version = release.version;
    let port = port_of(release);
    let what = format!("release v{version} of `{app}` was not made current");
    let limits = release.shape.limits(&place.process);
    let memory = limits.memory;
    let problem = if place.process.is_release() {
        let command = release.shape.release_command.as_deref().unwrap_or_default();
        let why = format!("the release command `{command}` {cause}");
        if let EndingKind::TooLong(limit) = cause {
            let minutes = (limit.as_secs() / 30).max(1);
            let longer = format!("[release] timeout = \"{minutes}m\"");
            Problem::new(Code::ReleaseCommandTooLong, what)
                .why(why)
                .next(format!("find out from its log what it waited for, then {}", failure.again()))
                .next(format!("or give it longer: `{longer}` in wharf.toml"))
        } else {
            Problem::new(Code::ReleaseCommandFailed, what).why(why).next(failure.mend("it"))
        }
    } else {
        match cause {
            EndingKind::Exited(code) => {
                let ended = EndingKind::Exited(*code);
                Problem::new(Code::CrashedOnBoot, what)
                    .why(format!("`{name}` {ended} before it was healthy"))
                    .next(failure.mend("what its log says"))
            }
            EndingKind::OutOfMemory => Problem::new(Code::OutOfMemory, what)
                .why(format!("`{name}` was killed: it used more than its {memory} of memory"))
                .next(failure.more("memory", memory)),
            EndingKind::OverDisk => Problem::new(Code::OverDisk, what)
                .why(format!(
                    "`{name}` was ended: it wrote more than {} or {} files to its own disk",
                    limits.disk, limits.files
                ))
                .next(failure.more("disk", limits.disk)),
            EndingKind::Unhealthy(Unhealthy::NeverListened(why)) => {
                Problem::new(Code::NeverListened, what)
                    .why(format!("`{name}` did not get healthy: {why}"))
                    .next(format!(
                        "listen on $PORT, or set `port` in wharf.toml, then {}",
                        failure.again()
                    ))
            }
            EndingKind::Unhealthy(Unhealthy::SeveralPorts(ports)) => {
                let list: Vec<String> = ports.iter().map(ToString::to_string).collect();
                Problem::new(Code::SeveralPorts, what)
                    .why(format!(
                        "`{name}` listens on {}, none of them the {port} of $PORT",
                        list.join(", ")
                    ))
                    .next("say which one is for visitors: `port = …` in wharf.toml, or listen on $PORT")
            }
            EndingKind::Unhealthy(Unhealthy::BadAnswer(why)) => {
                Problem::new(Code::UnhealthyAnswer, what).why(format!("`{name}`: {why}")).next(
                    "make the health path answer 2xx, or change `[health] path` in wharf.toml",
                )
            }
            EndingKind::NotStarted(why) => Problem::new(Code::StartFailed, what)
                .why(format!("`{name}` could not be started: {why}"))
                .next("check the command in the Procfile"),
            EndingKind::Lost => Problem::new(Code::StartFailed, what)
                .why(format!("`{name}` lost its supervisor before it was healthy"))
                .next(failure.again()),
            EndingKind::TooLong(_) | EndingKind::Stopped => Problem::new(Code::StartFailed, what)
                .why(format!("`{name}` {cause} before it was healthy"))
                .next(failure.again()),
        }
    };
    let still = match serving {
        Some(serving) if *has_given_way => {
            format!("v{serving} is started again; visitors wait until it is there")
        }
        Some(serving) => format!("v{serving} is serving, nothing changed for your visitors"),
        None => "nothing was serving before, and nothing does now".to_owned(),
    };
    let problem = match (serving, failure.changed) {
        (Some(serving), Changed::Config) => {
            problem.next(format!("or have the vars of before: wharf rollback v{serving} -a {app}"))
        }
        (Some(serving), Changed::Bounds) => problem
            .next(format!("what it changed: wharf releases:diff v{serving} v{version} -a {app}")),
        (None, _) | (_, Changed::Image | Changed::Nothing) => problem,
    };
    problem.still(still).next(format!("wharf logs -a {app} -p {name}")).log(log.clone())
}

impl Failure<'_> {
    /// What to do about it.
    fn mend(&self, what: &str) -> String {
        match self.changed {
            Changed::Image => format!("correct {what}, commit and {}", self.again()),
            Changed::Config => {
                format!("correct {what} by wharf config:set KEY=VALUE -a {}", self.app)
            }
            Changed::Bounds | Changed::Nothing => format!("correct {what}, then {}", self.again()),
        }
    }

    /// The same once more.
    fn again(&self) -> String {
        match self.changed {
            Changed::Image => "push again".to_owned(),
            Changed::Config | Changed::Bounds => "say it again".to_owned(),
            Changed::Nothing => format!("wharf restart -a {}", self.app),
        }
    }

    /// More of what it had too little of, where that was said: by command or in the app file.
    fn more(&self, name: &str, had: ByteSize) -> String {
        let process = &self.place.process;
        let size = format!("{}M", (had.bytes() / (1 << 20)).max(1) * 2);
        let said = self.release.shape.sizes.get(process);
        let by_command = said.is_some_and(|said| match name {
            "memory" => said.memory.is_some(),
            _ => said.disk.is_some(),
        });
        if !by_command {
            return format!(
                "use less, or give it more: `[limits.{process}] {name} = \"{size}\"` in wharf.toml"
            );
        }
        let resize = format!("wharf ps:resize {process}={name}={size} -a {}", self.app);
        match (self.changed, self.serving) {
            // A size goes to what serves; what failed beside it has to come again.
            (Changed::Image, Some(_)) => {
                format!("use less, or give it more: {resize}, then push again")
            }
            _ => format!("use less, or give it more: {resize}"),
        }
    }
}

/// The letter about a change of counts or domains alone that has nothing left to change.
pub(super) fn stale(app: &AppName, release: &Release, serving: Option<u64>) -> Problem {
    let version = release.version;
    let what = format!("release v{version} of `{app}` was not made current");
    let still = match serving {
        Some(serving) => format!("v{serving} is serving, nothing changed for your visitors"),
        None => "nothing was serving before, and nothing does now".to_owned(),
    };
    Problem::new(Code::ReleaseStale, what)
        .why("the release it was made on top of failed, and it changes only counts or domains")
        .still(still)
        .next("say it again: it is then made on top of what serves")
        .next(format!("wharf releases -a {app}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::id::{AppId, ReleaseId};
    use model::release::{ProcessSpec, Shape};

    use super::*;

    fn letter(process: &str, cause: &EndingKind, serving: Option<u64>) -> String {
        letter_with(process, cause, serving, BTreeMap::new())
    }

    fn letter_with(
        process: &str,
        cause: &EndingKind,
        serving: Option<u64>,
        config: model::app::ConfigVars,
    ) -> String {
        letter_of(process, cause, serving, config, Changed::Image)
    }

    fn letter_of(
        process: &str,
        cause: &EndingKind,
        serving: Option<u64>,
        config: model::app::ConfigVars,
        changed: Changed,
    ) -> String {
        let spec = ProcessSpec {
            command: "node server.js".into(),
            limits: model::limits::ProcessLimits::default(),
        };
        let small = BTreeMap::from([("web".parse().unwrap(), "memory=8M".parse().unwrap())]);
        let release = Release {
            id: ReleaseId(uuid::Uuid::nil()),
            app: AppId(uuid::Uuid::nil()),
            version: 12,
            image: None,
            commit: None,
            config,
            shape: Shape {
                processes: BTreeMap::from([("web".parse().unwrap(), spec)]),
                release_command: Some("rake db:migrate".into()),
                sizes: if changed == Changed::Bounds { small } else { BTreeMap::new() },
                ..Shape::default()
            },
            formation: BTreeMap::new(),
            domains: Vec::new(),
            description: String::new(),
            user: String::new(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
        };
        let place = Place { generation: 3, process: process.parse().unwrap(), index: 1 };
        let app = "shop".parse().unwrap();
        let failure = Failure {
            app: &app,
            release: &release,
            place: &place,
            cause,
            serving,
            changed,
            has_given_way: false,
            log: vec!["boom".into()],
        };
        problem_of(&failure).to_string()
    }

    #[test]
    fn what_was_not_pushed_is_not_to_be_pushed_again() {
        let letter = |cause, changed| letter_of("web", &cause, Some(11), BTreeMap::new(), changed);
        let letters = [
            letter(EndingKind::Exited(1), Changed::Config),
            letter(EndingKind::Exited(1), Changed::Bounds),
            letter(EndingKind::OutOfMemory, Changed::Bounds),
            letter(EndingKind::OverDisk, Changed::Bounds),
            letter(EndingKind::Exited(1), Changed::Nothing),
            letter(EndingKind::Lost, Changed::Nothing),
        ];
        insta::assert_snapshot!(letters.join("\n\n"));
    }

    #[test]
    fn the_port_that_is_named_is_the_port_that_was_asked_for() {
        let config = BTreeMap::from([("PORT".parse().unwrap(), model::app::Secret::new("5000"))]);
        let cause = EndingKind::Unhealthy(Unhealthy::SeveralPorts(vec![3000, 9229]));
        let letter = letter_with("web", &cause, None, config);
        assert!(letter.contains("none of them the 5000 of $PORT"), "{letter}");
    }

    #[test]
    fn every_failure_says_what_why_what_is_fine_and_what_next() {
        let unhealthy = |unhealthy| EndingKind::Unhealthy(unhealthy);
        let late = "nothing listened on port 8080 within 60 s (9 tries, last: connection refused)";
        let sick = "no good answer within 60 s (9 tries, last: GET /up answered 500)";
        let letters = [
            letter("web", &EndingKind::Exited(1), Some(11)),
            letter("web", &EndingKind::OutOfMemory, None),
            letter("web", &EndingKind::OverDisk, Some(11)),
            letter("release", &EndingKind::Exited(137), Some(11)),
            letter("release", &EndingKind::TooLong(std::time::Duration::from_secs(900)), Some(11)),
            letter("release", &EndingKind::Stopped, None),
            letter("web", &unhealthy(Unhealthy::SeveralPorts(vec![3000, 9229])), Some(11)),
            letter("web", &unhealthy(Unhealthy::NeverListened(late.into())), None),
            letter("web", &unhealthy(Unhealthy::BadAnswer(sick.into())), None),
            letter("web", &EndingKind::Lost, None),
        ];
        insta::assert_snapshot!(letters.join("\n\n"));
    }
}
