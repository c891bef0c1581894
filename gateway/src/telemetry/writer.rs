//! The one thread that writes log lines, so that a request never waits for a terminal, a pipe or a disk.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Lines that may wait to be written. More are dropped and counted.
const QUEUE: usize = 8192;
/// Lines are written together up to about this size, in bytes.
const GATHER: usize = 64 * 1024;
/// How long the end waits for an output that nobody reads: a paused terminal must not keep the program alive.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);
const FLUSH_POLL: Duration = Duration::from_millis(2);

/// How long a line waits for others to be written with it. A thread that is asleep costs those who log nothing; one
/// that waits for each line has to be woken for each, which was a third of a proxied request's CPU time.
const PAUSE: Duration = Duration::from_millis(5);

/// Hands lines to the writing thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogWriter {
    lines: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    Stop,
}

/// Writes out what is left when it is dropped, as far as the output takes it within five seconds.
#[derive(Debug)]
pub struct LogGuard {
    writer: LogWriter,
    thread: Option<JoinHandle<()>>,
    flush_within: Duration,
}

impl LogWriter {
    /// Starts a thread that writes to `out`.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<(LogWriter, LogGuard)> {
        let (lines, queue) = sync_channel(QUEUE);
        let writer = LogWriter { lines, dropped: Arc::new(AtomicU64::new(0)) };
        let dropped = Arc::clone(&writer.dropped);
        let thread = thread::Builder::new()
            .name("log-writer".into())
            .spawn(move || write_lines(&queue, out, &dropped))?;
        Ok((writer.clone(), LogGuard { writer, thread: Some(thread), flush_within: FLUSH_WITHIN }))
    }

    /// Writes a line, with its line break, or drops it if the queue is full.
    pub(super) fn line(&self, line: Vec<u8>) {
        if self.lines.try_send(Message::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines were lost: the queue was full, or the output failed.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let deadline = Instant::now() + self.flush_within;
        // Neither sending nor joining can be given a time limit, and a stuck output would let both wait for ever.
        while matches!(self.writer.lines.try_send(Message::Stop), Err(TrySendError::Full(_))) {
            if Instant::now() >= deadline {
                return;
            }
            thread::sleep(FLUSH_POLL);
        }
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(FLUSH_POLL);
        }
    }
}

/// Writes until told to stop. An output that fails is tried again with the next lines.
fn write_lines(queue: &Receiver<Message>, out: impl Write, dropped: &AtomicU64) {
    let mut batch = Batch { out, bytes: Vec::with_capacity(GATHER), lines: 0 };
    while let Ok(first) = queue.recv() {
        thread::sleep(PAUSE);
        for message in std::iter::once(first).chain(queue.try_iter()) {
            match message {
                Message::Line(line) => batch.add(&line),
                Message::Stop => return batch.write(dropped),
            }
            if batch.bytes.len() >= GATHER {
                batch.write(dropped);
            }
        }
        batch.write(dropped);
    }
}

/// Lines that are written together.
struct Batch<W> {
    out: W,
    bytes: Vec<u8>,
    lines: u64,
}

impl<W: Write> Batch<W> {
    fn add(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.lines += 1;
    }

    fn write(&mut self, dropped: &AtomicU64) {
        // There is no place left to complain at but the metrics.
        if self.out.write_all(&self.bytes).and_then(|()| self.out.flush()).is_err() {
            dropped.fetch_add(self.lines, Ordering::Relaxed);
        }
        self.bytes.clear();
        self.lines = 0;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output that takes nothing until it is let go.
    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn all_lines_are_written_in_order_by_the_end() {
        let out = Shared::default();
        let (writer, guard) = LogWriter::start(out.clone()).unwrap();
        (0..100).for_each(|i| writer.line(format!("{i}\n").into_bytes()));
        drop(guard);
        let expected: String = (0..100).map(|i| format!("{i}\n")).collect();
        assert_eq!(String::from_utf8(out.0.lock().unwrap().clone()).unwrap(), expected);
    }

    #[test]
    fn a_stuck_output_costs_lines_and_never_a_wait() {
        let (let_go, stuck) = mpsc::channel();
        let (writer, guard) = LogWriter::start(Stuck(stuck)).unwrap();
        // The thread takes some lines off the queue before it is stuck; the rest of them fill it.
        (0..3 * QUEUE + GATHER).for_each(|_| writer.line(b"x\n".to_vec()));
        assert!(writer.dropped() > 0);
        drop(let_go);
        drop(guard);
    }

    #[test]
    fn an_output_that_stays_stuck_does_not_hold_up_the_end() {
        let (_never_let_go, stuck) = mpsc::channel();
        let (writer, mut guard) = LogWriter::start(Stuck(stuck)).unwrap();
        guard.flush_within = Duration::from_millis(50);
        (0..3 * QUEUE + GATHER).for_each(|_| writer.line(b"x\n".to_vec()));
        let (ended, end) = mpsc::channel();
        thread::spawn(move || {
            drop(guard);
            ended.send(()).unwrap();
        });
        end.recv_timeout(Duration::from_secs(10)).expect("the guard gives up");
    }

    #[test]
    fn lines_that_a_broken_output_loses_are_counted() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (writer, guard) = LogWriter::start(Broken).unwrap();
        (0..7).for_each(|_| writer.line(b"x\n".to_vec()));
        drop(guard);
        assert_eq!(writer.dropped(), 7);
    }
}
