//! After a 101: bytes both ways until one side ends. They flow only once both sides agreed.

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::body::ResponseBody;
use crate::core::Core;
use crate::endpoint::InFlight;
use crate::headers;
use crate::log::Record;

/// The 101 for the client, and the task that carries the bytes afterwards.
pub(crate) fn answer(
    core: &Core,
    (client, replica): (OnUpgrade, OnUpgrade),
    answer: Response<Incoming>,
    (in_flight, mut record): (InFlight, Record),
) -> Response<ResponseBody> {
    let (mut head, _empty) = answer.into_parts();
    let protocol = head.headers.get(UPGRADE).cloned();
    headers::towards_client(&mut head.headers, &record.request_id);
    head.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    let protocol = protocol.unwrap_or_else(|| HeaderValue::from_static("websocket"));
    head.headers.insert(UPGRADE, protocol);
    record.answer(head.status);
    record.is_upgraded = true;
    core.tasks.spawn(async move {
        let _in_flight = in_flight;
        let (Ok(client), Ok(replica)) = tokio::join!(client, replica) else { return };
        let (mut client, mut replica) = (TokioIo::new(client), TokioIo::new(replica));
        if let Ok((_up, down)) = tokio::io::copy_bidirectional(&mut client, &mut replica).await {
            record.add_bytes(usize::try_from(down).unwrap_or(usize::MAX));
        }
    });
    Response::from_parts(head, ResponseBody::silent())
}
