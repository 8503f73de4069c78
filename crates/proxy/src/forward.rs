//! One request there and back: checked, sent on its journey, answered.

use std::rc::Rc;

use http::header::{HOST, SET_COOKIE};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Uri, Version};

use crate::attempt::{Answered, is_idempotent};
use crate::body::{ResponseBody, Upload};
use crate::check::{self, Broken};
use crate::claims;
use crate::code::EdgeCode;
use crate::core::Core;
use crate::edge;
use crate::front;
use crate::headers::{self, Client, REQUEST_ID};
use crate::http1::{self, Incoming};
use crate::http2;
use crate::journey::{End, Journey};
use crate::log::Record;
use crate::marks::Marks;
use crate::page::{self, Form};
use crate::upgrade;

/// A client's promise that the same request twice is one.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

type Refusal = (EdgeCode, Option<Broken>);

/// Answers one request, one way or another.
pub(crate) async fn serve(
    core: Rc<Core>,
    client: Rc<Client>,
    (mut request, mut marks): (Request<Incoming>, Marks),
) -> Response<ResponseBody> {
    let now_ms = core.epoch_ms();
    let given = marks.has(Marks::REQUEST_ID).then(|| request.headers().get(REQUEST_ID)).flatten();
    let id = core.ids.accept(given, now_ms);
    if !core.config.trusted_peers.is_empty() {
        edge::join_chain(request.headers_mut());
    }
    let chain = client.chain(request.headers());
    let line = (request.method(), request.uri());
    let mut record = Record::new(core.sink.clone(), line, id.clone(), chain.clone());
    record.protocol = protocol(&client, request.version());
    let is_http2 = request.version() == Version::HTTP_2;
    let mut downgraded = Ok(());
    if is_http2 {
        downgraded = http2::downgrade(&mut request);
        marks = Marks::of(request.headers());
    }
    record.host = request.headers().get(HOST).cloned();
    let admitted = downgraded.map_err(|rule| (EdgeCode::BadRequest, Some(rule)));
    let most = core.config.most_body_bytes;
    let host = match admitted.and_then(|()| admit(&request, marks, most)) {
        Ok(host) => host,
        Err((code, rule)) => {
            return page::answer(code, rule, Form::wanted(request.headers()), record);
        }
    };
    let mut settled = front::answer(&core, &client, &request, &host);
    if settled.is_none() && core.tls.claims().are_possible() && !core.table().answers(&host) {
        Box::pin(claims::wait_routed(&core, &host, client.address())).await;
        settled = front::answer(&core, &client, &request, &host);
    }
    if let Some(answer) = settled {
        return match answer {
            Ok(answer) => page::own(answer, record),
            Err(code) => page::answer(code, None, Form::wanted(request.headers()), record),
        };
    }
    let wants_upgrade = headers::wanted_upgrade(request.headers(), marks).is_some();
    let from_client = wants_upgrade.then(|| http1::on_upgrade(request.body()));
    let (mut head, incoming) = request.into_parts();
    if let Some(tracer) = &core.tracer {
        record.trace(tracer.enter(&mut head.headers), tracer.clone());
    }
    let is_secure = client.is_secure(&head.headers);
    let told = headers::Told {
        client: &client,
        request_id: &id,
        chain: &chain,
        host: record.host.as_ref(),
        now_ms,
    };
    let lines = headers::towards_app(&mut head.headers, marks, told);
    head.uri = origin_form(&head.uri);
    let can_repeat = is_idempotent(&head.method) || head.headers.contains_key(IDEMPOTENCY_KEY);
    let can_repeat = can_repeat && !wants_upgrade;
    let upload = Upload::new(incoming, can_repeat, most);
    record.count_received(upload.received());
    let mut journey = Journey {
        core: &core,
        host: &host,
        head: &head,
        lines: &lines,
        is_secure,
        upload: &upload,
        client: client.address(),
        chain: &chain,
        can_repeat,
        takes_ordinary: !is_http2 && !wants_upgrade,
        record,
        cookie: None,
        edge: None,
        passed: None,
    };
    let (answered, in_flight) = match journey.answer().await {
        Ok(answer) => answer,
        Err(End::Refused(code, rule)) => {
            journey.count_edge_error();
            let form = Form::wanted(&head.headers).for_request(&head.headers);
            let own = journey.edge.as_ref().and_then(|edge| edge.page(code));
            let mut answer = page::answer_as(own, (code, rule), form, journey.record);
            if let Some(edge) = &journey.edge {
                edge.dress(&head, answer.headers_mut());
            }
            return answer;
        }
        Err(End::Redirected(status, location)) => {
            return page::redirect(status, location, journey.record);
        }
        Err(End::Stopped(stop)) => {
            if stop.is_refusal() {
                journey.count_edge_error();
            }
            let app = journey.record.app.filter(|_| client.tls().is_some());
            let form = Form::wanted(&head.headers);
            let mut answer = stop.answer(journey.edge.as_deref(), &head, form, journey.record);
            if let Some(app) = app {
                front::promise_https(&core, app, answer.headers_mut());
            }
            return answer;
        }
    };
    let Answered { mut answer, mut ordinary, lease } = answered;
    let (mut record, cookie, edge) = (journey.record, journey.cookie, journey.edge);
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(from_client) = from_client else {
            let rule = Some(Broken("101 without being asked"));
            let form = Form::wanted(&head.headers);
            return page::answer(EdgeCode::UnsafeAnswer, rule, form, record);
        };
        let Some(exchange) = lease.into_exchange() else {
            return page::answer(EdgeCode::BadAnswer, None, Form::wanted(&head.headers), record);
        };
        let sides = (from_client, exchange);
        return upgrade::answer(&core, sides, answer, (in_flight, record));
    }
    record.answer(answer.status());
    headers::towards_client(answer.headers_mut(), ordinary.as_mut(), &id);
    if let (Some(_), Some(app)) = (client.tls(), record.app) {
        front::promise_https(&core, app, answer.headers_mut());
    }
    for (name, value) in record.timing().into_iter().flatten() {
        answer.headers_mut().append(name, value);
    }
    if let Some(cookie) = cookie {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
    let encoding = edge.and_then(|edge| {
        edge.dress(&head, answer.headers_mut());
        edge.compress(&head, &mut answer)
    });
    let pool = core.pool.clone();
    answer.map(|body| {
        let body = ResponseBody::app(body, lease, in_flight, pool, record);
        body.encoded(encoding).with_ordinary(ordinary)
    })
}

/// The protocol for the log.
fn protocol(client: &Client, version: Version) -> (&'static str, Option<&'static str>) {
    match client.tls() {
        Some(session) if version == Version::HTTP_2 => ("http2", Some(session.version)),
        None if version == Version::HTTP_2 => ("h2c", None),
        Some(session) => ("https", Some(session.version)),
        None => ("http", None),
    }
}

/// Answers for a head that could not be read.
pub(crate) fn refuse(
    core: &Core,
    client: &Client,
    refusal: http1::Refusal,
) -> Response<ResponseBody> {
    let id = core.ids.accept(None, core.epoch_ms());
    let chain = client.chain(&HeaderMap::new());
    let line = (&Method::GET, &Uri::default());
    let mut record = Record::new(core.sink.clone(), line, id, chain);
    record.protocol = protocol(client, Version::HTTP_11);
    record.is_unread = true;
    page::answer(refusal.code, Some(refusal.rule), Form::Text, record)
}

fn admit<B>(request: &Request<B>, marks: Marks, most_body: u64) -> Result<String, Refusal> {
    let refuse = |rule| (EdgeCode::BadRequest, Some(rule));
    check::head(request, marks).map_err(refuse)?;
    let host = check::host(request).map_err(refuse)?;
    if most_body > 0 && check::length(request.headers()).is_some_and(|length| length > most_body) {
        return Err((EdgeCode::BodyTooLarge, None));
    }
    if check::is_loop(request.headers(), marks) { Err((EdgeCode::Loop, None)) } else { Ok(host) }
}

fn origin_form(uri: &Uri) -> Uri {
    if uri.scheme().is_none() {
        return uri.clone();
    }
    let path = uri.path_and_query().cloned();
    path.map_or_else(|| Uri::from_static("/"), Uri::from)
}
