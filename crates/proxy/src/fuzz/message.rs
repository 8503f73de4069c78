//! What was read of a connection, by whichever reader, and whether two readers agree.

use std::future::poll_fn;
use std::pin::Pin;

use http::HeaderMap;
use http::header::TRANSFER_ENCODING;
use http_body::Body;

/// One message as it was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Method, target and version; or version and status.
    pub(super) line: String,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
    pub(super) end: End,
}

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Whole,
    /// The connection ended first.
    Cut,
    /// It broke a rule, ours or the other reader's.
    Refused(&'static str),
}

/// All of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) messages: Vec<Message>,
    /// Why no more was read, when that was not the end of the connection.
    pub(super) refused: Option<String>,
}

/// Bytes in pieces.
pub(super) struct Piece;

impl Piece {
    /// Pieces whose lengths follow from a number: 0 is one byte each, the highest all at once.
    pub(super) fn cut(bytes: &[u8], by: u8) -> Vec<&[u8]> {
        match by {
            0 => bytes.chunks(1).collect(),
            by if usize::from(by) < bytes.len() && by < 128 => {
                let (first, second) = bytes.split_at(usize::from(by));
                vec![first, second]
            }
            by => bytes.chunks(usize::from(by)).collect(),
        }
    }
}

fn list(fields: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let list = fields.iter().map(|(name, value)| {
        // A coding's name is the same in any case (RFC 9112, 7), and we say it in one.
        let value = match name {
            &TRANSFER_ENCODING => value.as_bytes().to_ascii_lowercase(),
            _ => value.as_bytes().to_vec(),
        };
        (name.to_string(), value)
    });
    let mut list: Vec<_> = list.collect();
    // The order of fields of different names says nothing, that of the same name is kept.
    list.sort_by(|one, other| one.0.cmp(&other.0));
    list
}

impl Message {
    /// Reads the body to its end; `why` says what an error of it means.
    pub(super) async fn read<B: Body<Data = bytes::Bytes> + Unpin>(
        (line, fields): (String, &HeaderMap),
        mut body: B,
        why: impl Fn(B::Error) -> End,
    ) -> Self {
        let mut message = Self {
            line,
            fields: list(fields),
            body: Vec::new(),
            trailers: Vec::new(),
            end: End::Whole,
        };
        while let Some(frame) = poll_fn(|ctx| Pin::new(&mut body).poll_frame(ctx)).await {
            match frame {
                Err(error) => {
                    message.end = why(error);
                    break;
                }
                Ok(frame) => match frame.into_data() {
                    Ok(data) => message.body.extend_from_slice(&data),
                    Err(frame) => {
                        message.trailers = frame.trailers_ref().map(list).unwrap_or_default();
                    }
                },
            }
        }
        message
    }

    fn agrees_with(&self, other: &Self) -> Result<(), String> {
        let is_same = |what: &str, same: bool| {
            if same { Ok(()) } else { Err(format!("{what}: {self:?} and {other:?}")) }
        };
        is_same("another line", self.line == other.line)?;
        is_same("other fields", self.fields == other.fields)?;
        match self.end {
            End::Whole => is_same("another body", self == other),
            End::Cut => {
                let (own, other_body) = (&self.body, &other.body);
                let is_part = own.starts_with(other_body) || other_body.starts_with(own);
                is_same("a body of another length", other.end != End::Whole && is_part)
            }
            End::Refused(_) => Ok(()),
        }
    }
}

impl Reading {
    /// Whether everything that was taken here was read there in the same way.
    pub(super) fn agrees_with(&self, other: &Self) -> Result<(), String> {
        for (number, message) in self.messages.iter().enumerate() {
            let Some(same) = other.messages.get(number) else {
                return Err(format!("only one takes {message:?}: {:?}", other.refused));
            };
            message.agrees_with(same)?;
            if matches!(message.end, End::Refused(_)) {
                return Ok(());
            }
        }
        if self.refused.is_none() && other.messages.len() > self.messages.len() {
            return Err(format!("the other goes on: {:?}", other.messages[self.messages.len()]));
        }
        Ok(())
    }

    /// The rule by which something was refused here.
    #[cfg(test)]
    pub(super) fn rule(&self) -> Option<&str> {
        let body = self.messages.last().and_then(|message| match message.end {
            End::Refused(rule) => Some(rule),
            End::Whole | End::Cut => None,
        });
        body.or(self.refused.as_deref())
    }
}
