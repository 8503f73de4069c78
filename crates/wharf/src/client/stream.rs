//! Bodies that are too large to be held: archives, in and out.

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderValue, Method};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use model::problem::Problem;
use tokio::sync::mpsc;

use super::{Client, Reply, chain, whole_body};
use crate::api::copy::{COPIED_TRAILER, Copied, TAR};

/// An archive on its way here.
#[derive(Debug)]
pub struct Archive {
    body: Incoming,
    copied: Option<Copied>,
    lost: Problem,
}

impl Client {
    /// A body that is read piece by piece, with a word at its end.
    pub async fn download(&self, path: &str) -> Result<Archive, Problem> {
        let request = self.request(Method::GET, path).header(TE, "trailers");
        let request = request.body(whole_body(Bytes::new()));
        let request = request.map_err(|error| self.unreachable(&error))?;
        let response = self.exchange(request).await?;
        let body = self.checked(response).await?.into_body();
        Ok(Archive { body, copied: None, lost: self.lost_copy() })
    }

    /// Sends what comes, however long it takes; the answer may come before its end.
    pub async fn upload(
        &self,
        path: &str,
        pieces: mpsc::Receiver<std::io::Result<Bytes>>,
    ) -> Result<Reply, Problem> {
        let frames = stream::unfold(pieces, |mut pieces| async move {
            let piece: std::io::Result<Bytes> = pieces.recv().await?;
            Some((piece.map(Frame::data), pieces))
        });
        let request = self
            .request(Method::PUT, path)
            .header(CONTENT_TYPE, HeaderValue::from_static(TAR))
            .body(StreamBody::new(frames).boxed())
            .map_err(|error| self.unreachable(&error))?;
        let response = self.exchange_within(request, None).await?;
        self.whole(response).await
    }

    fn lost_copy(&self) -> Problem {
        self.problem("the connection broke off")
    }
}

impl Archive {
    /// The next piece; none at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let frame = match self.body.frame().await {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Err(self.lost.clone().why(chain(&error))),
                None => return Ok(None),
            };
            match frame.into_data() {
                Ok(data) => return Ok(Some(data)),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    let word = trailers.get(COPIED_TRAILER);
                    self.copied =
                        word.and_then(|word| serde_json::from_slice(word.as_bytes()).ok());
                }
            }
        }
    }

    /// How it ended there. Without a word of it, it broke off.
    pub fn copied(&mut self) -> Copied {
        let broke_off = || Copied { problem: Some(self.lost.clone()), ..Copied::default() };
        self.copied.take().unwrap_or_else(broke_off)
    }
}
