//! The one thread that writes log lines, so that a request never waits for a terminal, a pipe or a disk.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Lines that may wait to be written. More are dropped and counted.
const QUEUE: usize = 8192;
/// Lines are written together up to about this size, in bytes.
const GATHER: usize = 64 * 1024;

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

/// Writes out what is left when it is dropped.
#[derive(Debug)]
pub struct LogGuard {
    writer: LogWriter,
    thread: Option<JoinHandle<()>>,
}

impl LogWriter {
    /// Starts a thread that writes to `out`.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<(LogWriter, LogGuard)> {
        let (lines, queue) = sync_channel(QUEUE);
        let writer = LogWriter { lines, dropped: Arc::new(AtomicU64::new(0)) };
        let thread =
            thread::Builder::new().name("log-writer".into()).spawn(move || write_lines(&queue, out))?;
        Ok((writer.clone(), LogGuard { writer, thread: Some(thread) }))
    }

    /// Writes a line, with its line break, or drops it if the queue is full.
    pub(super) fn line(&self, line: Vec<u8>) {
        if self.lines.try_send(Message::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        // If the thread is gone there is nothing left to write to.
        let _ = self.writer.lines.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Writes until told to stop. An output that fails is tried again with the next lines.
fn write_lines(queue: &Receiver<Message>, mut out: impl Write) {
    let mut gathered = Vec::with_capacity(GATHER);
    while let Ok(first) = queue.recv() {
        thread::sleep(PAUSE);
        for message in std::iter::once(first).chain(queue.try_iter()) {
            match message {
                Message::Line(line) => gathered.extend_from_slice(&line),
                Message::Stop => return write_out(&mut out, &mut gathered),
            }
            if gathered.len() >= GATHER {
                write_out(&mut out, &mut gathered);
            }
        }
        write_out(&mut out, &mut gathered);
    }
}

fn write_out(out: &mut impl Write, gathered: &mut Vec<u8>) {
    // There is no place left to complain at.
    let _ = out.write_all(gathered).and_then(|()| out.flush());
    gathered.clear();
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
}
