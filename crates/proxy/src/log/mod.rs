//! The request log: one line per request, in the form of a replica's log, joined to the app's.
//!
//! A core formats its lines into a buffer of its own and hands whole batches to the one writer
//! thread. When the writer is behind, lines are dropped and counted; a request never waits for it.

mod line;
mod record;
mod tries;
mod writer;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, UNIX_EPOCH};

use model::id::AppId;
use tokio::sync::Notify;

use crate::config::LogForm;
use crate::meter::CoreMeter;

pub(crate) use record::Record;
pub(crate) use writer::{Lost, Writer};

/// A batch is handed over at this size, or after this time.
const BATCH_BYTES: usize = 48 * 1024;
const BATCH_AGE: Duration = Duration::from_millis(100);

/// Lines of one core on their way to the writer.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    text: String,
    /// Where each line ends, and whose it is; none is the edge's own.
    lines: Vec<(Option<AppId>, usize)>,
}

/// One core's end of the log.
#[derive(Debug, Clone)]
pub(crate) struct Sink(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    batch: RefCell<Batch>,
    sender: SyncSender<Batch>,
    lost: Arc<Lost>,
    meters: Arc<[CoreMeter]>,
    number: usize,
    form: LogForm,
    /// The present second, and how it is written, without the `Z`.
    second: RefCell<(u64, String)>,
    has_lines: Notify,
    is_stopped: Cell<bool>,
}

impl Sink {
    pub(crate) fn new(
        (sender, lost): (SyncSender<Batch>, Arc<Lost>),
        (meters, number): (Arc<[CoreMeter]>, usize),
        form: LogForm,
    ) -> Self {
        Self(Rc::new(Inner {
            batch: RefCell::default(),
            sender,
            lost,
            meters,
            number,
            form,
            second: RefCell::default(),
            has_lines: Notify::new(),
            is_stopped: Cell::new(false),
        }))
    }

    /// The core's own numbers.
    pub(crate) fn meter(&self) -> &CoreMeter {
        &self.0.meters[self.0.number]
    }

    pub(crate) fn form(&self) -> LogForm {
        self.0.form
    }

    /// Writes a time since 1970, as every line begins; the date is made once a second.
    pub(crate) fn stamp(&self, line: &mut String, now: Duration) {
        let mut second = self.0.second.borrow_mut();
        if second.0 != now.as_secs() || second.1.is_empty() {
            let written =
                jiff::Timestamp::try_from(UNIX_EPOCH + Duration::from_secs(now.as_secs()));
            second.1 = written.unwrap_or_default().to_string();
            second.1.pop();
            second.0 = now.as_secs();
        }
        line.push_str(&second.1);
        let micros = 1_000_000 + now.subsec_micros();
        let mut digits = itoa::Buffer::new();
        // The 1 before the digits keeps their zeroes.
        line.push('.');
        line.push_str(&digits.format(micros)[1..]);
        line.push('Z');
    }

    /// Adds one line; `write` ends it with a newline.
    pub(crate) fn add(&self, app: Option<AppId>, write: impl FnOnce(&mut String)) {
        let mut batch = self.0.batch.borrow_mut();
        write(&mut batch.text);
        let end = batch.text.len();
        batch.lines.push((app, end));
        let is_first = batch.lines.len() == 1;
        drop(batch);
        if end >= BATCH_BYTES || self.0.is_stopped.get() {
            self.flush();
        } else if is_first {
            self.0.has_lines.notify_one();
        }
    }

    /// Hands over what there is.
    pub(crate) fn flush(&self) {
        let batch = {
            let mut batch = self.0.batch.borrow_mut();
            if batch.lines.is_empty() {
                return;
            }
            // The next one will be like it.
            let (text, lines) = (batch.text.len(), batch.lines.len());
            let next =
                Batch { text: String::with_capacity(text), lines: Vec::with_capacity(lines) };
            std::mem::replace(&mut *batch, next)
        };
        if let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) =
            self.0.sender.try_send(batch)
        {
            self.0.lost.add(batch.lines.len());
        }
    }

    /// Hands over what lies there for long; sleeps while there is nothing.
    pub(crate) async fn run(self) {
        loop {
            self.0.has_lines.notified().await;
            tokio::time::sleep(BATCH_AGE).await;
            self.flush();
        }
    }

    /// From now on each line goes at once: the core is about to end.
    pub(crate) fn stop(&self) {
        self.0.is_stopped.set(true);
        self.flush();
    }
}
