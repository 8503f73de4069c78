//! The body of every answer that is no success, and which status goes with which problem.

use model::problem::{Code, Problem};
use serde::{Deserialize, Serialize};

/// Heroku's error shape, and the whole problem beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// A word for machines: `not_found`, `invalid_params`, `unauthorized` …
    pub id: String,
    /// A sentence for people.
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wharf: Option<Problem>,
}

impl From<Problem> for ErrorBody {
    fn from(problem: Problem) -> Self {
        let message = match &problem.why {
            Some(why) => format!("{}: {why}", problem.what),
            None => problem.what.clone(),
        };
        Self { id: word(status(problem.code)).to_owned(), message, url: None, wharf: Some(problem) }
    }
}

/// The HTTP status of a problem. Each code has its own line so that a new one must choose.
pub fn status(code: Code) -> u16 {
    match code {
        Code::BadInput
        | Code::CommandWrong
        | Code::ProcfileBroken
        | Code::AppFileBroken
        | Code::NoAppGiven
        | Code::NotConfirmed
        | Code::VolumeConflict
        | Code::SubmodulesRefused
        | Code::PushRejected
        | Code::NothingDetected
        | Code::EdgeFileMissing
        | Code::NoProcess
        | Code::VersionUnavailable
        | Code::CertificateUnreadable
        | Code::CertificateKeyWrong
        | Code::CertificateNotValid
        | Code::CertificateForOthers
        | Code::CertificateChainBroken
        | Code::BuildStepFailed => 400,
        Code::TokenWrong => 401,
        Code::SocketForbidden => 403,
        Code::AppUnknown
        | Code::ProcessTypeUnknown
        | Code::ReplicaUnknown
        | Code::ReleaseUnknown
        | Code::NotFound
        | Code::CertificateUnknown
        | Code::DomainUnknown
        | Code::RouteUnknown
        | Code::VolumeUnknown
        | Code::SnapshotUnknown
        | Code::LinkTargetUnknown
        | Code::LinkUnknown
        | Code::OutboundUnknown => 404,
        Code::NameTaken
        | Code::NothingReleased
        | Code::DomainTaken
        | Code::RouteTaken
        | Code::LinkCircle
        | Code::LinkTaken
        | Code::AppInUse
        | Code::AnotherDaemon
        | Code::ReleaseStale
        | Code::ReleaseUnchanged
        | Code::ImageMissing
        | Code::CrashedOnBoot
        | Code::OutOfMemory
        | Code::OverDisk
        | Code::ReleaseCommandFailed
        | Code::ReleaseCommandTooLong
        | Code::NeverListened
        | Code::UnhealthyAnswer
        | Code::SeveralPorts
        | Code::CertificateNotIssued
        | Code::NameLeadsElsewhere
        | Code::AuthorityNotAllowed
        | Code::VolumeMounted
        | Code::SingleWriter
        | Code::CopyFailed
        | Code::ExecFailed => 409,
        Code::TooLarge => 413,
        Code::DaemonUnreachable
        | Code::DiskNearlyFull
        | Code::BaseMissing
        | Code::PullFailed
        | Code::BuildInterrupted
        | Code::BuildTimeout
        | Code::HostUnfit
        | Code::NoOwnUsers
        | Code::VolumeUnbounded
        | Code::SnapshotFailed
        | Code::ProxyDown => 503,
        Code::ConfigBroken | Code::StartFailed | Code::StoreFailed | Code::Internal => 500,
    }
}

/// Heroku's word for a status.
pub fn word(status: u16) -> &'static str {
    match status {
        400 => "invalid_params",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        405 => "method_not_allowed",
        406 => "not_acceptable",
        409 => "conflict",
        413 => "too_large",
        416 => "requested_range_not_satisfiable",
        429 => "rate_limit",
        503 => "service_unavailable",
        _ => "internal_server_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_status_with_a_word() {
        for code in Code::ALL {
            let status = status(*code);
            assert!((400..600).contains(&status), "{code}");
            assert_eq!(word(status) == "internal_server_error", status == 500, "{code} {status}");
        }
    }

    #[test]
    fn the_body_is_herokus_with_the_problem_beside_it() {
        let problem = Problem::new(Code::AppUnknown, "there is no app `shpo`").next("wharf apps");
        let body = serde_json::to_value(ErrorBody::from(problem)).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "id": "not_found",
                "message": "there is no app `shpo`",
                "wharf": {"code": "P004", "what": "there is no app `shpo`", "next": ["wharf apps"]}
            })
        );
    }
}
