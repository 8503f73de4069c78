//! Wire types of the control API, shared by server and client; the only public serde types.
//!
//! Shapes, field names and paths are Heroku's Platform API v3 wherever it has a word for the thing
//! (`app`, `dyno`, `formation` …); what it has no word for lives under `/wharf/…`. Nothing here knows
//! the store or the feature rooms, and nothing here does I/O.
//!
//! Every change that makes a release says so in two headers of its answer: [`RELEASE_HEADER`] with
//! `v7`, and [`DEPLOY_HEADER`] with the deploy's id, whose progress is at [`progress::path`]. A change
//! that makes none has [`CURRENT_HEADER`] instead, when there is a release. What is worth knowing
//! beside is in [`WARNING_HEADER`].

pub mod common;

pub mod account;

pub mod app;

pub mod domain;

pub mod edge;

pub mod link;

pub mod outbound;
pub mod sleep;

pub mod route;

pub mod certificate;

pub mod formation;

pub mod dyno;

pub mod release;

pub mod build;

pub mod log;

pub mod error;

pub mod stats;

pub mod inspect;

pub mod doctor;

pub mod disk;

pub mod copy;

pub mod status;

pub mod trace;

pub mod volume;

pub mod progress;

pub mod attach;

/// The `Accept` of version 3, and the `Content-Type` of its answers is `application/json`.
pub const ACCEPT: &str = "application/vnd.heroku+json; version=3";

/// `v7`: the release this change made.
pub const RELEASE_HEADER: &str = "wharf-release";

/// The id of the deploy that makes it current; absent when nothing is deployed (no image yet).
pub const DEPLOY_HEADER: &str = "wharf-deploy";

/// `v7`: the release that stays current after a change that made none.
pub const CURRENT_HEADER: &str = "wharf-current-release";

/// Something a person should know about a change that was made.
pub const WARNING_HEADER: &str = "wharf-warning";

/// One id per request, on every answer and in the log.
pub const REQUEST_ID_HEADER: &str = "request-id";

/// Where a page of a list starts; send it back as `Range` to read on.
pub const NEXT_RANGE_HEADER: &str = "next-range";
