//! Password hashing pool: a fixed number of threads with a bounded queue, so that however many logins arrive,
//! no more hashes run than there are threads.
//!
//! A thread is its own permit. A client that disconnects removes its waiting job from the queue, yet a
//! running hash keeps its thread to the end, so resetting connections buys an attacker no extra work.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::password::Password;
use super::password_hash::{HashCost, HashFailed, HashMemory, PasswordHash};

/// Overloaded: every thread hashes and the queue is full, or (logged as an error) a hash could not be run at
/// all. It says nothing about the password; retry in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the password hashing threads are busy; try again shortly")]
pub struct Busy;

/// The thread pool. Dropping it waits for running hashes and fails waiting ones (as [`Busy`]).
pub struct HashingPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Maximum number of running and waiting jobs.
    capacity: usize,
}

struct Shared {
    queue: Mutex<JobQueue>,
    /// Signalled when a job joins the queue and when the queue closes.
    changed: Condvar,
    hashes_run: AtomicU64,
}

#[derive(Default)]
struct JobQueue {
    waiting: VecDeque<Box<dyn Job>>,
    running: usize,
    closed: bool,
}

/// Work for a pool thread.
trait Job: Send {
    /// Whether the caller has stopped waiting.
    fn is_abandoned(&self) -> bool;
    fn run(self: Box<Self>, memory: &mut HashMemory);
}

struct VerifyJob<W, T> {
    work: W,
    answer: oneshot::Sender<T>,
}

impl<W, T> Job for VerifyJob<W, T>
where
    W: FnOnce(&mut HashMemory) -> T + Send,
    T: Send,
{
    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn run(self: Box<Self>, memory: &mut HashMemory) {
        let result = (self.work)(memory);
        // The receiver may be gone; the work was done all the same.
        let _ = self.answer.send(result);
    }
}

/// Niceness of hashing threads (setpriority(2)), so that a storm of logins does not slow requests on the same
/// core. Beside programs that use every core it leaves a login a tenth of one, so that it is slower, not refused.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Lowers the priority of this thread alone, which Linux permits without privilege.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS) {
        tracing::debug!(%error, "cannot lower the priority of a hashing thread");
    }
}

impl HashingPool {
    /// Starts `threads` (at least one) threads; up to `queue` jobs wait for them.
    ///
    /// # Panics
    ///
    /// The system starts no thread: a gateway that cannot hash cannot serve.
    pub fn new(threads: usize, queue: usize) -> Self {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            queue: Mutex::new(JobQueue::default()),
            changed: Condvar::new(),
            hashes_run: AtomicU64::new(0),
        });
        let start = |index: usize| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name(format!("hash-{index}"))
                .spawn(move || {
                    lower_priority();
                    shared.work_until_closed();
                })
                .unwrap_or_else(|error| panic!("cannot start password hashing thread {index}: {error}"))
        };
        let handles = (0..threads).map(start).collect();
        Self { shared, threads: handles, capacity: threads.saturating_add(queue) }
    }

    /// Whether `password` matches `hash`. Resolves to [`Busy`] at once where the queue is full.
    pub async fn verify(&self, hash: &PasswordHash, password: Password) -> Result<bool, Busy> {
        let hash = hash.clone();
        let shared = Arc::clone(&self.shared);
        let outcome = self
            .submit(move |memory| {
                shared.hashes_run.fetch_add(1, Ordering::Relaxed);
                hash.verify(&password, memory)
            })?
            .await;
        match outcome {
            Ok(Ok(matches)) => Ok(matches),
            Ok(Err(failed)) => Err(report(&failed)),
            // The job panicked, or the pool was dropped with the job still waiting.
            Err(_) => Err(Busy),
        }
    }

    /// The hash of the same password at another cost (see [`PasswordHash::rehash`]).
    pub(super) async fn rehash(
        &self,
        old: &PasswordHash,
        cost: HashCost,
        password: Password,
    ) -> Result<PasswordHash, Busy> {
        let old = old.clone();
        match self.submit(move |memory| old.rehash(cost, &password, memory))?.await {
            Ok(outcome) => outcome.map_err(|failed| report(&failed)),
            Err(_) => Err(Busy),
        }
    }

    /// The hash of a new password.
    pub(super) async fn create(&self, cost: HashCost, password: Password) -> Result<PasswordHash, Busy> {
        match self.submit(move |_| PasswordHash::create_at(cost, &password))?.await {
            Ok(outcome) => outcome.map_err(|failed| report(&failed)),
            Err(_) => Err(Busy),
        }
    }

    /// The number of hashes since the start, for the metrics.
    pub fn hashes_run(&self) -> u64 {
        self.shared.hashes_run.load(Ordering::Relaxed)
    }

    /// The jobs that wait or run.
    pub fn queue_len(&self) -> usize {
        let queue = self.shared.lock();
        queue.running + queue.waiting.len()
    }

    fn submit<W, T>(&self, work: W) -> Result<oneshot::Receiver<T>, Busy>
    where
        W: FnOnce(&mut HashMemory) -> T + Send + 'static,
        T: Send + 'static,
    {
        let (answer, receiver) = oneshot::channel();
        let mut queue = self.shared.lock();
        if queue.running + queue.waiting.len() >= self.capacity {
            // Abandoned jobs must not block others.
            queue.waiting.retain(|job| !job.is_abandoned());
        }
        if queue.running + queue.waiting.len() >= self.capacity {
            return Err(Busy);
        }
        queue.waiting.push_back(Box::new(VerifyJob { work, answer }));
        drop(queue);
        self.shared.changed.notify_one();
        Ok(receiver)
    }
}

impl Drop for HashingPool {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.closed = true;
        queue.waiting.clear();
        drop(queue);
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A thread catches the panics of its jobs, so it does not panic.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, JobQueue> {
        // No code panics while it holds the lock, and each update leaves the queue consistent.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work_until_closed(&self) {
        let mut memory = HashMemory::default();
        while let Some(job) = self.next_job() {
            let panicked = catch_unwind(AssertUnwindSafe(|| job.run(&mut memory))).is_err();
            if panicked {
                tracing::error!("a password hashing job panicked; its caller got 503");
                memory = HashMemory::default();
            }
            self.lock().running -= 1;
        }
    }

    /// The next job whose caller still waits, counted as running; `None` once the pool is being dropped.
    fn next_job(&self) -> Option<Box<dyn Job>> {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                return None;
            }
            match queue.waiting.pop_front() {
                Some(job) if job.is_abandoned() => {}
                Some(job) => {
                    queue.running += 1;
                    return Some(job);
                }
                None => queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

fn report(failed: &HashFailed) -> Busy {
    tracing::error!(error = %failed, "a password could not be hashed");
    Busy
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc;

    use super::*;
    use crate::users::Scheme;

    const TEST_COST: HashCost = HashCost { memory_kib: 64, passes: 1, lanes: 1 };

    fn password(text: &str) -> Password {
        Password::new(text).unwrap()
    }

    /// A running job that ends when it is released.
    struct TestGate {
        release: mpsc::Sender<()>,
        result: oneshot::Receiver<()>,
    }

    fn block_worker(pool: &HashingPool) -> TestGate {
        let (release, released) = mpsc::channel();
        let (started, has_started) = mpsc::channel();
        let result = pool
            .submit(move |_| {
                started.send(()).unwrap();
                released.recv().unwrap();
            })
            .unwrap();
        has_started.recv().unwrap();
        TestGate { release, result }
    }

    #[tokio::test]
    async fn verifies_right_and_wrong_passwords() {
        let pool = HashingPool::new(2, 4);
        let hash = PasswordHash::create_at(TEST_COST, &password("right")).unwrap();
        assert_eq!(pool.verify(&hash, password("right")).await, Ok(true));
        assert_eq!(pool.verify(&hash, password("wrong")).await, Ok(false));
        assert_eq!(pool.hashes_run(), 2);
    }

    #[tokio::test]
    async fn a_full_queue_is_busy_at_once_and_runs_no_hash() {
        let pool = HashingPool::new(1, 1);
        let gate = block_worker(&pool);
        let waiting = pool.submit(|_| ()).unwrap();
        // The only thread is blocked, so a result can only come at once.
        assert_eq!(
            pool.verify(&PasswordHash::decoy(Scheme::argon2id(TEST_COST)), password("x")).await,
            Err(Busy)
        );
        assert_eq!(pool.hashes_run(), 0);
        gate.release.send(()).unwrap();
        gate.result.await.unwrap();
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn a_running_job_keeps_its_thread_when_its_caller_goes_away() {
        let pool = HashingPool::new(1, 0);
        let TestGate { release, result } = block_worker(&pool);
        drop(result);
        assert_eq!(pool.submit(|_| ()).unwrap_err(), Busy, "the abandoned job still runs");
        release.send(()).unwrap();
        while pool.shared.lock().running > 0 {
            tokio::task::yield_now().await;
        }
        pool.submit(|_| ()).unwrap().await.unwrap();
    }

    #[tokio::test]
    async fn a_waiting_job_whose_caller_went_away_leaves_the_line_and_never_runs() {
        let pool = HashingPool::new(1, 1);
        let gate = block_worker(&pool);
        let (ran, has_run) = mpsc::channel::<()>();
        drop(pool.submit(move |_| ran.send(())).unwrap());
        let next = pool.submit(|_| ()).expect("the abandoned place is free again");
        gate.release.send(()).unwrap();
        next.await.unwrap();
        assert!(has_run.try_recv().is_err());
    }

    #[tokio::test]
    async fn the_pool_survives_a_job_that_panics() {
        let pool = HashingPool::new(1, 1);
        let answer = pool.submit(|_| panic!("on purpose")).unwrap();
        assert!(answer.await.is_err());
        assert_eq!(
            pool.verify(&PasswordHash::decoy(Scheme::argon2id(TEST_COST)), password("x")).await,
            Ok(false)
        );
    }

    #[tokio::test]
    async fn dropping_the_pool_waits_for_what_runs_and_ends_what_waits() {
        let pool = HashingPool::new(1, 1);
        let gate = block_worker(&pool);
        let waiting = pool.submit(|_| ()).unwrap();
        let dropping = std::thread::spawn(move || drop(pool));
        assert!(waiting.await.is_err());
        assert!(!dropping.is_finished());
        gate.release.send(()).unwrap();
        dropping.join().unwrap();
        gate.result.await.unwrap();
    }
}
