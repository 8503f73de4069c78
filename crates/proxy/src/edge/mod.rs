//! What the edge does for one app beside passing requests on: it lets in or not ([`CompiledEdge::admit`],
//! before the request goes to the app) and dresses answers ([`CompiledEdge::dress`]).
//!
//! Made from [`model::route::edge`] with the table. An app without settings has none of it, and its
//! requests pay for one look at an `Option`.

mod address;

mod auth;

mod compress;

mod cors;

mod dress;

mod encode;

pub(crate) mod rate;

mod shelf;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use model::route::edge::Edge;

use crate::body::ResponseBody;
use crate::check::Broken;
use crate::code::EdgeCode;
use crate::core::Core;
use crate::files::FileBody;
use crate::log::Record;
use crate::page::{self, Form};

pub(crate) use address::join_chain;
pub(crate) use auth::Passed;
pub(crate) use encode::Encoding;

/// One app's settings, ready for its requests.
#[derive(Debug)]
pub(crate) struct CompiledEdge {
    settings: Edge,
    rate: Option<rate::Limiter>,
    cors: Option<cors::Rules>,
    auth: Option<auth::Door>,
    dress: dress::Dress,
    shelf: Option<shelf::Shelf>,
}

/// How the edge ends a request that does not go on to the app.
#[derive(Debug)]
pub(crate) enum Stop {
    /// With a page, and perhaps a header that belongs to it.
    Refused(EdgeCode, Option<Broken>, Option<(HeaderName, HeaderValue)>),
    /// With an answer in the ordinary course of things.
    Answered(Response<Bytes>),
    /// With one of the app's files.
    File(Response<FileBody>),
}

impl CompiledEdge {
    /// Makes the settings ready; what was counted and remembered by the last ones goes on where they
    /// say the same.
    pub(crate) fn compile(settings: &Edge, before: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        if settings.is_off() {
            return None;
        }
        if let Some(same) = before.filter(|before| before.settings == *settings) {
            return Some(same.clone());
        }
        let rate = before.and_then(|before| before.rate.as_ref());
        Some(Arc::new(Self {
            rate: rate::Limiter::new(&settings.rate, rate),
            cors: settings.cors.as_ref().map(cors::Rules::new),
            auth: settings.auth.as_ref().map(auth::Door::new),
            dress: dress::Dress::new(settings),
            shelf: shelf::Shelf::open(settings),
            settings: settings.clone(),
        }))
    }

    /// Decides whether a request goes on to the app; once for each, however often it is tried. A
    /// preflight carries no password, so it is answered before one is asked for.
    pub(crate) async fn admit(
        &self,
        core: &Core,
        (client, chain): (IpAddr, &HeaderValue),
        head: &Parts,
    ) -> Result<Option<Passed>, Stop> {
        let visitor = || address::visitor(&core.config.trusted_peers, client, chain);
        if !self.settings.access.is_open() && !self.settings.access.admits(visitor()) {
            return Err(Stop::Refused(EdgeCode::NotLetIn, None, None));
        }
        if let Some(rate) = &self.rate {
            rate.admit(visitor, &head.headers)?;
        }
        if let Some(answer) = self.cors.as_ref().and_then(|cors| cors.preflight(head)) {
            return Err(answer);
        }
        match &self.auth {
            Some(auth) => auth.admit(head).await.map(Some),
            None => Ok(None),
        }
    }

    /// The answer to a request for one of the app's files; none when it is the app's.
    pub(crate) async fn serve(&self, request: &Parts) -> Option<Stop> {
        match &self.shelf {
            Some(shelf) => shelf.answer(request).await,
            None => None,
        }
    }

    /// The app's own page for what the edge answers.
    pub(crate) fn page(&self, code: EdgeCode) -> Option<&str> {
        self.shelf.as_ref()?.page(code)
    }

    /// Puts on an answer what belongs to every answer of the app.
    pub(crate) fn dress(&self, request: &Parts, headers: &mut HeaderMap) {
        if let Some(cors) = &self.cors {
            cors.dress(&request.headers, headers);
        }
        self.dress.put_on(headers);
    }

    /// Decides whether the app's answer is compressed; its head then says so.
    pub(crate) fn compress<B>(
        &self,
        request: &Parts,
        answer: &mut Response<B>,
    ) -> Option<Box<Encoding>> {
        let (rules, status) = (self.settings.compress.as_ref()?, answer.status());
        let coding = compress::decide(rules, request, status, answer.headers_mut())?;
        let encoding = Encoding::new(coding)?;
        compress::say(coding, answer.headers_mut());
        Some(Box::new(encoding))
    }
}

impl Stop {
    /// Whether the visitor did not get what was asked for.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(..))
    }

    /// The answer that ends the request.
    pub(crate) fn answer(
        self,
        edge: Option<&CompiledEdge>,
        request: &Parts,
        form: Form,
        record: Box<Record>,
    ) -> Response<ResponseBody> {
        match self {
            Self::Answered(answer) => page::own(answer, record),
            Self::File(answer) => {
                let mut answer = page::file(answer, record);
                if let Some(edge) = edge {
                    edge.dress(request, answer.headers_mut());
                }
                answer
            }
            Self::Refused(code, rule, header) => {
                let own = edge.and_then(|edge| edge.page(code));
                let mut answer = page::answer_as(own, (code, rule), form, record);
                if let Some(edge) = edge {
                    edge.dress(request, answer.headers_mut());
                }
                if let Some((name, value)) = header {
                    answer.headers_mut().insert(name, value);
                }
                answer
            }
        }
    }
}
