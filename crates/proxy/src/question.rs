//! One question to a replica that speaks HTTP/2 without TLS: is it well? Asked of one that serves, and by
//! the daemon of one that shall.

use std::io;
use std::pin::Pin;

use bytes::Bytes;
use h2::client::SendRequest;
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::h2c;
use crate::pool::ConnectFailure;

/// The method by which gRPC servers tell their health; any other path is asked for with GET.
pub const GRPC_HEALTH: &str = "/grpc.health.v1.Health/Check";

/// An empty gRPC message: how is the server as a whole?
const EMPTY: &[u8] = &[0; 5];
/// A `HealthCheckResponse` that says `SERVING`, as a gRPC message.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
/// An answer longer than this is none of health.
const LONGEST: usize = 1024;

/// What the replica said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is well.
    Well,
    /// It is not, and this is how it said so.
    Bad(String),
}

/// Asks over a connection that is used for nothing else. Without a path, who speaks HTTP/2 is well.
pub async fn ask<S>(stream: S, path: Option<&str>) -> io::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sender, driver) = match h2c::greet(stream).await {
        Ok(greeted) => greeted,
        Err(ConnectFailure::NotHttp2) => {
            return Ok(Answer::Bad("it does not speak HTTP/2 without TLS".into()));
        }
        Err(_) => return Ok(Answer::Bad("it hung up when HTTP/2 was spoken".into())),
    };
    let Some(path) = path else { return Ok(Answer::Well) };
    tokio::select! {
        biased;
        answer = put(sender, path) => answer.map_err(other),
        ended = driver => Err(match ended {
            Ok(()) => io::Error::other("it closed the connection without an answer"),
            Err(error) => other(error),
        }),
    }
}

fn other(error: h2::Error) -> io::Error {
    io::Error::other(error)
}

async fn put(mut sender: SendRequest<Bytes>, path: &str) -> Result<Answer, h2::Error> {
    let is_grpc = path == GRPC_HEALTH;
    let Ok(uri) = format!("http://localhost{path}").parse() else {
        return Ok(Answer::Bad(format!("{path} is no path")));
    };
    let mut request = Request::new(());
    (*request.uri_mut(), *request.version_mut()) = (uri, Version::HTTP_2);
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("wharf-health"));
    if is_grpc {
        *request.method_mut() = Method::POST;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    }
    let (answer, mut body) = sender.send_request(request, !is_grpc)?;
    if is_grpc {
        body.send_data(Bytes::from_static(EMPTY), true)?;
    }
    let answer = answer.await?;
    let status = answer.status().as_u16();
    if is_grpc && status == 200 {
        return grpc(answer).await;
    }
    Ok(match status {
        200..400 if !is_grpc => Answer::Well,
        _ => Answer::Bad(format!(
            "{} {path} answered {status}",
            if is_grpc { "POST" } else { "GET" }
        )),
    })
}

async fn grpc(answer: Response<h2::RecvStream>) -> Result<Answer, h2::Error> {
    let (head, mut body) = answer.into_parts();
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        let _stream_over = Pin::new(body.flow_control()).release_capacity(data.len());
        message.extend_from_slice(&data);
        if message.len() > LONGEST {
            break;
        }
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    let of = |fields: &HeaderMap| fields.get("grpc-status").cloned();
    let status = of(&trailers).or_else(|| of(&head.headers));
    Ok(match status.as_ref().and_then(|status| status.to_str().ok()) {
        Some("0") if message == SERVING => Answer::Well,
        Some("0") => Answer::Bad("its health service does not say SERVING".into()),
        Some("12") => Answer::Bad("it has no health service (grpc.health.v1.Health)".into()),
        Some(other) => Answer::Bad(format!("its health service answered with grpc-status {other}")),
        None => Answer::Bad("its health service answered without a grpc-status".into()),
    })
}
