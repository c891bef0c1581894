//! The background log writer: one thread writes all log lines, so that a request never waits for a terminal,
//! a pipe or a disk.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// Maximum of unwritten lines per buffer, in bytes. Lines beyond it are dropped and counted.
const MAX_BUFFER_BYTES: usize = 2 * 1024 * 1024;
/// Lines are batched for this long. The writer thread sleeps in between; waking it for each line cost a third
/// of a proxied request's CPU time.
const BATCH_DELAY: Duration = Duration::from_millis(5);
/// How long a flush at exit waits for an output that does not accept data: a paused terminal must not keep
/// the process alive.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
const FLUSH_POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Hands lines to the writer thread. Clones share a buffer: their lines stay in order, and they contend for
/// its lock while one of them formats. A thread that writes much has a [buffer of its own](LogWriter::with_own_buffer).
#[derive(Debug, Clone)]
pub struct LogWriter {
    buffer: Arc<WorkerBuffer>,
    sink: Arc<LogSink>,
}

/// Lines that are not yet written.
type WorkerBuffer = Mutex<BufferedLines>;

#[derive(Debug, Default)]
struct BufferedLines {
    text: String,
    lines: u64,
}

/// State shared between the writer thread and its producers.
#[derive(Debug, Default)]
struct LogSink {
    /// The writer thread, once it runs.
    thread: OnceLock<Thread>,
    buffers: Mutex<Vec<Arc<WorkerBuffer>>>,
    dropped: AtomicU64,
    stopping: AtomicBool,
}

/// Flushes on drop, within a timeout of five seconds.
#[derive(Debug)]
pub struct LogGuard {
    sink: Arc<LogSink>,
    thread: JoinHandle<()>,
    flush_timeout: Duration,
}

impl LogWriter {
    /// Starts a writer thread for `out`.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<(LogWriter, LogGuard)> {
        let sink = Arc::new(LogSink::default());
        let writer = LogWriter { buffer: sink.open_buffer(), sink: Arc::clone(&sink) };
        let served = Arc::clone(&sink);
        let thread =
            thread::Builder::new().name("log-writer".into()).spawn(move || served.write_lines(out))?;
        Ok((writer, LogGuard { sink, thread, flush_timeout: FLUSH_TIMEOUT }))
    }

    /// A writer to the same output with a buffer of its own. Lines are ordered within a buffer only.
    pub(crate) fn with_own_buffer(&self) -> LogWriter {
        LogWriter { buffer: self.sink.open_buffer(), sink: Arc::clone(&self.sink) }
    }

    /// Writes the line that `format` appends, including its line break, or drops it if the buffer is full.
    pub(super) fn line(&self, format: impl FnOnce(&mut String)) {
        let mut waiting = locked(&self.buffer);
        if waiting.text.len() >= MAX_BUFFER_BYTES {
            self.sink.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        format(&mut waiting.text);
        waiting.lines += 1;
        if waiting.lines == 1 {
            self.sink.wake();
        }
    }

    /// The number of lost lines: the buffer was full, or the output failed.
    pub fn dropped(&self) -> u64 {
        self.sink.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.sink.stopping.store(true, Ordering::Release);
        self.sink.wake();
        wait_for_end(&self.thread, self.flush_timeout);
    }
}

/// Waits until a thread has ended, or for the timeout: joining has none, and a blocked output would make it wait for ever.
pub(super) fn wait_for_end(thread: &JoinHandle<()>, timeout: Duration) {
    let deadline = Instant::now() + timeout;
    while !thread.is_finished() && Instant::now() < deadline {
        thread::sleep(FLUSH_POLL_INTERVAL);
    }
}

impl LogSink {
    fn open_buffer(&self) -> Arc<WorkerBuffer> {
        let buffer = Arc::default();
        locked(&self.buffers).push(Arc::clone(&buffer));
        buffer
    }

    /// Wakes the writer thread if it sleeps. One that is not running yet checks the buffers before it sleeps.
    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Writes until it is stopped. After a failed write, the next lines are tried again.
    fn write_lines(&self, mut out: impl Write) {
        self.thread.get_or_init(thread::current);
        let mut batch = BufferedLines::default();
        loop {
            // Read first: lines that were added before the stop are still written below.
            let stopping = self.stopping.load(Ordering::Acquire);
            let mut lines = 0;
            let buffers = locked(&self.buffers).clone();
            for buffer in buffers {
                std::mem::swap(&mut batch, &mut locked(&buffer));
                lines += batch.lines;
                // A failing log output can only be reported through the metrics.
                if !batch.text.is_empty()
                    && out.write_all(batch.text.as_bytes()).and_then(|()| out.flush()).is_err()
                {
                    self.dropped.fetch_add(batch.lines, Ordering::Relaxed);
                }
                batch.text.clear();
                batch.lines = 0;
            }
            match lines {
                0 if stopping => return,
                0 => thread::park(),
                _ => {}
            }
            if !stopping {
                thread::sleep(BATCH_DELAY);
            }
        }
    }
}

/// Each update is a single step, so a panic elsewhere leaves the buffer consistent.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// An output that blocks until the sender is dropped.
    struct BlockedWriter(mpsc::Receiver<()>);

    impl Write for BlockedWriter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Writes more than fits, even if the writer thread takes a full buffer before it blocks.
    fn fill(writer: &LogWriter) {
        let line = "x".repeat(1000);
        (0..3 * MAX_BUFFER_BYTES / line.len()).for_each(|_| writer.line(|text| text.push_str(&line)));
    }

    #[test]
    fn all_lines_are_written_in_order_by_the_end() {
        let out = Shared::default();
        let (writer, guard) = LogWriter::start(out.clone()).unwrap();
        (0..100).for_each(|i| writer.line(|text| *text += &format!("{i}\n")));
        drop(guard);
        let expected: String = (0..100).map(|i| format!("{i}\n")).collect();
        assert_eq!(String::from_utf8(out.0.lock().unwrap().clone()).unwrap(), expected);
    }

    #[test]
    fn lines_of_all_lanes_are_written() {
        let out = Shared::default();
        let (writer, guard) = LogWriter::start(out.clone()).unwrap();
        let buffers: Vec<_> = (0..4).map(|_| writer.with_own_buffer()).collect();
        let threads: Vec<_> = buffers
            .into_iter()
            .map(|buffer| {
                thread::spawn(move || (0..1000).for_each(|i| buffer.line(|text| *text += &format!("{i}\n"))))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        drop(guard);
        assert_eq!(String::from_utf8(out.0.lock().unwrap().clone()).unwrap().lines().count(), 4000);
        assert_eq!(writer.dropped(), 0);
    }

    #[test]
    fn a_stuck_output_costs_lines_and_never_a_wait() {
        let (let_go, stuck) = mpsc::channel();
        let (writer, guard) = LogWriter::start(BlockedWriter(stuck)).unwrap();
        fill(&writer);
        assert!(writer.dropped() > 0);
        drop(let_go);
        drop(guard);
    }

    #[test]
    fn an_output_that_stays_stuck_does_not_hold_up_the_end() {
        let (_never_let_go, stuck) = mpsc::channel();
        let (writer, mut guard) = LogWriter::start(BlockedWriter(stuck)).unwrap();
        guard.flush_timeout = Duration::from_millis(50);
        fill(&writer);
        let (ended, end) = mpsc::channel();
        thread::spawn(move || {
            drop(guard);
            ended.send(()).unwrap();
        });
        end.recv_timeout(Duration::from_secs(10)).expect("the guard gives up");
    }

    #[test]
    fn lines_that_a_broken_output_loses_are_counted() {
        struct FailingWriter;
        impl Write for FailingWriter {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (writer, guard) = LogWriter::start(FailingWriter).unwrap();
        (0..7).for_each(|_| writer.line(|text| text.push_str("x\n")));
        drop(guard);
        assert_eq!(writer.dropped(), 7);
    }
}
