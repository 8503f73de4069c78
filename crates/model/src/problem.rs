//! What a person is told when something did not work.
//!
//! The same value gives the command line's text, the API's JSON body and the error page. A code is
//! stable, never reused, and has one page in `docs/errors/`. Nothing internal goes in here: the log
//! has the chain.

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($( $name:ident $code:literal $title:literal; )*) => {
        /// A stable error code; each has a page of the same name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $( #[doc = $title] $name, )* }

        impl Code {
            /// Every code, in order.
            pub const ALL: &'static [Self] = &[ $( Self::$name, )* ];

            /// The code as people see it: `P104`.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$name => $code, )* }
            }

            /// What the code means, in half a line.
            pub fn title(self) -> &'static str {
                match self { $( Self::$name => $title, )* }
            }
        }
    };
}

codes! {
    // P0: usage and app file
    BadInput "P001" "a value breaks its rule";
    ProcfileBroken "P002" "the Procfile has a line that is no `type: command`";
    AppFileBroken "P003" "the app file has a mistake";
    AppUnknown "P004" "there is no app of that name";
    NameTaken "P005" "the name is in use";
    TokenWrong "P006" "the token is missing or wrong";
    NoAppGiven "P007" "no app was named and none could be inferred";
    DaemonUnreachable "P008" "the Wharf daemon did not answer";
    NotConfirmed "P009" "the action was not confirmed";
    ConfigBroken "P010" "Wharf's own configuration has a mistake";
    AnotherDaemon "P011" "another daemon uses this data directory";
    ProcessTypeUnknown "P012" "the app has no such process type";
    ReplicaUnknown "P013" "the app has no such replica";
    ReleaseUnknown "P014" "the app has no such release";
    NothingReleased "P015" "the app has no release yet";
    NotFound "P016" "there is no such thing";
    TooLarge "P017" "the request is larger than its limit";
    CommandWrong "P018" "the command line was not understood";
    // P1: deploy
    CrashedOnBoot "P101" "a process ended before it was healthy";
    OutOfMemory "P102" "a process was killed because it used more memory than its limit";
    ReleaseCommandFailed "P103" "the release command failed";
    NeverListened "P104" "the web process did not listen on a port in time";
    UnhealthyAnswer "P105" "the health path did not answer well in time";
    SeveralPorts "P106" "the web process listens on several ports, none of them $PORT";
    StartFailed "P107" "a container could not be started";
    ReleaseStale "P108" "the release it was made on top of did not go live";
    ReleaseUnchanged "P109" "nothing to release: that is what runs already";
    ReleaseCommandTooLong "P110" "the release command took longer than its limit";
    OverDisk "P111" "a process was ended because it wrote more than its disk bound";
    // P2: build
    NothingDetected "P201" "no language or framework was recognised";
    BuildStepFailed "P202" "a build step failed";
    DiskNearlyFull "P203" "the disk is nearly full";
    BaseMissing "P204" "the base system could not be made";
    VersionUnavailable "P205" "the language version asked for is not to be had here";
    BuildInterrupted "P206" "the build was cut off";
    BuildTimeout "P207" "the build took longer than its limit";
    NoProcess "P208" "no command to start was found";
    ImageMissing "P209" "the release's image is gone";
    PullFailed "P210" "the base image could not be pulled";
    EdgeFileMissing "P212" "the image lacks a file or folder the edge is to serve";
    // P3: git
    SubmodulesRefused "P301" "the repository has submodules";
    PushRejected "P302" "the push was not accepted";
    // P4: route, domain, certificate
    DomainTaken "P401" "another app has that domain";
    DomainUnknown "P402" "the app does not have that domain";
    RouteTaken "P403" "another route is for the same requests";
    RouteUnknown "P404" "the app does not have that route";
    SocketForbidden "P405" "no route may lead to that socket";
    CertificateUnreadable "P430" "the certificate or its key cannot be read";
    CertificateKeyWrong "P431" "the key does not belong to the certificate";
    CertificateNotValid "P432" "the certificate is not valid at this time";
    CertificateForOthers "P433" "the certificate covers none of the app's domains";
    CertificateChainBroken "P434" "the certificate chain is out of order";
    CertificateUnknown "P435" "the app has no such certificate";
    CertificateNotIssued "P440" "the authority did not issue the certificate";
    NameLeadsElsewhere "P441" "the name does not lead to this machine";
    AuthorityNotAllowed "P442" "the name's CAA records forbid this authority";
    // P5: add-on, binding, volume, link
    VolumeUnknown "P520" "the app has no such volume";
    VolumeConflict "P521" "volumes cannot be mounted like that";
    VolumeMounted "P522" "the volume is mounted";
    SingleWriter "P523" "the process type may have one replica only";
    VolumeUnbounded "P524" "this machine cannot bound a volume";
    SnapshotUnknown "P525" "the volume has no such snapshot";
    SnapshotFailed "P526" "the snapshot could not be taken or brought back";
    LinkTargetUnknown "P540" "an app it is to use is not there";
    LinkCircle "P541" "apps would use each other in a circle";
    LinkTaken "P542" "the app has a link of that name already";
    LinkUnknown "P543" "the app has no such link";
    AppInUse "P544" "other apps use it";
    OutboundUnknown "P545" "that place is not on the app's outbound list";
    // P6: node and cluster
    // P7: host and engine
    HostUnfit "P701" "the machine lacks something Wharf needs";
    ExecFailed "P702" "the command could not be started in the container";
    ProxyDown "P703" "the proxy did not answer";
    StoreFailed "P704" "the store could not be read or written";
    NoOwnUsers "P710" "apps have no users of their own on this machine";
    CopyFailed "P711" "files could not be copied into or out of a replica";
    // P9: our bug
    Internal "P901" "something in Wharf itself went wrong";
}

impl Code {
    /// The code with that text, if there is one.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str().eq_ignore_ascii_case(text))
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("unknown error code"))
    }
}

/// What happened, why, what is still fine, what to do next, and the lines that show it.
///
/// ```
/// use model::problem::{Code, Problem};
/// let problem = Problem::new(Code::NeverListened, "release v12 of `shop` was not made current")
///     .why("`web` did not answer on port 8080 within 30 s (5 tries, last: connection refused)")
///     .still("v11 is serving, nothing changed for your visitors")
///     .next("listen on $PORT, or set `port` in the app file, then push again");
/// assert!(problem.to_string().starts_with("error[P104]: release v12"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub code: Code,
    pub what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub still: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<String>,
    /// The last lines of the log that show it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

impl Problem {
    /// A problem with its code and what happened, in the user's nouns, names in backticks.
    pub fn new(code: Code, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), why: None, still: None, next: Vec::new(), log: Vec::new() }
    }

    /// The last concrete fact.
    #[must_use]
    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// What is still fine.
    #[must_use]
    pub fn still(mut self, still: impl Into<String>) -> Self {
        self.still = Some(still.into());
        self
    }

    /// One thing to do next; may be called again for another line.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next.push(next.into());
        self
    }

    /// The lines that show it.
    #[must_use]
    pub fn log(mut self, log: Vec<String>) -> Self {
        self.log = log;
        self
    }
}

impl std::error::Error for Problem {}

impl std::fmt::Display for Problem {
    /// The text of the command line, without a newline at the end.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "error[{}]: {}", self.code, self.what)?;
        if let Some(why) = &self.why {
            write!(f, "\n  why:   {why}")?;
        }
        if let Some(still) = &self.still {
            write!(f, "\n  still: {still}")?;
        }
        for (position, next) in self.next.iter().enumerate() {
            write!(f, "\n  {} {next}", if position == 0 { "next: " } else { "      " })?;
        }
        write!(
            f,
            "\n  {} wharf explain {}",
            if self.next.is_empty() { "next: " } else { "      " },
            self.code
        )?;
        if !self.log.is_empty() {
            write!(f, "\n  log:")?;
            for line in &self.log {
                write!(f, "\n    {line}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_like_a_letter() {
        let problem =
            Problem::new(Code::NeverListened, "release v12 of `shop` was not made current")
                .why("`web` did not answer on port 8080 within 30 s (last: connection refused)")
                .still("v11 is serving, nothing changed for your visitors")
                .next("listen on $PORT, or set `port` in the app file")
                .next("wharf logs shop")
                .log(vec!["Listening on 3000".into()]);
        insta::assert_snapshot!(problem, @r"
        error[P104]: release v12 of `shop` was not made current
          why:   `web` did not answer on port 8080 within 30 s (last: connection refused)
          still: v11 is serving, nothing changed for your visitors
          next:  listen on $PORT, or set `port` in the app file
                 wharf logs shop
                 wharf explain P104
          log:
            Listening on 3000
        ");
    }

    #[test]
    fn codes_are_unique_and_found_again() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{code} twice");
            assert_eq!(Code::parse(code.as_str()), Some(*code));
        }
    }
}
