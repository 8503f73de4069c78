//! After a 101: bytes both ways until one side ends. They flow only once both sides agreed.

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Response};
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;

use crate::body::ResponseBody;
use crate::core::Core;
use crate::endpoint::InFlight;
use crate::headers;
use crate::http1::{Exchange, Incoming, Upgraded};
use crate::log::Record;

/// The 101 for the client, and the task that carries the bytes afterwards.
pub(crate) fn answer(
    core: &Core,
    (client, replica): (oneshot::Receiver<Upgraded>, Exchange),
    answer: Response<Incoming>,
    (in_flight, mut record): (InFlight, Box<Record>),
) -> Response<ResponseBody> {
    let (mut head, _empty) = answer.into_parts();
    let protocol = head.headers.get(UPGRADE).cloned();
    headers::towards_client(&mut head.headers, None, &record.request_id);
    head.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    let protocol = protocol.unwrap_or_else(|| HeaderValue::from_static("websocket"));
    head.headers.insert(UPGRADE, protocol);
    record.answer(head.status);
    record.is_upgraded = true;
    core.tasks.spawn(async move {
        let _in_flight = in_flight;
        let Ok(client) = client.await else { return };
        let Some(replica) = replica.into_upgraded() else { return };
        if let Ok((up, down)) = carry(client, replica).await {
            record.add_received(up);
            record.add_bytes(usize::try_from(down).unwrap_or(usize::MAX));
        }
    });
    Response::from_parts(head, ResponseBody::silent())
}

/// Carries what came too early first, then all there is; the bytes that went up and down.
async fn carry(mut client: Upgraded, mut replica: Upgraded) -> std::io::Result<(u64, u64)> {
    replica.stream.write_all(&client.early).await?;
    client.stream.write_all(&replica.early).await?;
    let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let early = (length(&client.early), length(&replica.early));
    let (up, down) = tokio::io::copy_bidirectional(&mut client.stream, &mut replica.stream).await?;
    Ok((early.0 + up, early.1 + down))
}
