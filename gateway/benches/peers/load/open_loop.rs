//! Open-loop load: requests are sent at a fixed rate, whether or not earlier responses have arrived.
//!
//! Latency counts from the moment when a request was due, so that a server that stalls is charged for all
//! requests that had to wait meanwhile (coordinated omission).

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};

use crate::Result;
use crate::http::{self, Head};

/// How long an answer may take before the run is given up.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

/// Requests at a fixed rate, evenly spaced, over keep-alive connections.
pub(crate) struct OpenLoop<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) token: &'a str,
    pub(crate) clients: usize,
    /// Requests per second.
    pub(crate) rate: u32,
    pub(crate) duration: Duration,
}

/// How long requests took, in order.
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// The latency that a share of all requests stayed below, in microseconds.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let index = (self.0.len() as f64 * share) as usize;
        self.0[index.min(self.0.len() - 1)].as_secs_f64() * 1e6
    }
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    /// When the request that it carries was due.
    due: Instant,
}

impl OpenLoop<'_> {
    /// Runs to the last answer.
    pub(crate) fn run(&self) -> Result<Latencies> {
        // Without it, a wait ends up to 50 µs late.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        let request = http::get(self.address, self.token).into_bytes();
        let epoll = epoll::create(epoll::CreateFlags::empty())?;
        let mut connections = self.connect(&epoll)?;
        let mut idle: VecDeque<usize> = (0..connections.len()).collect();
        let mut events = Vec::with_capacity(self.clients);

        let interval = Duration::from_secs(1) / self.rate;
        let total = (self.duration.as_secs_f64() * f64::from(self.rate)) as usize;
        let mut latencies = Vec::with_capacity(total);
        let mut sent = 0;
        let mut due = Instant::now() + Duration::from_millis(10);
        while latencies.len() < total {
            while sent < total && due <= Instant::now() {
                let Some(index) = idle.pop_front() else { break };
                let connection = &mut connections[index];
                connection.due = due;
                connection.stream.write_all(&request)?;
                sent += 1;
                due += interval;
            }
            let next_is_due = due.saturating_duration_since(Instant::now());
            let wait = if sent < total && !idle.is_empty() { next_is_due } else { RESPONSE_TIMEOUT };
            events.clear();
            epoll::wait(
                &epoll,
                rustix::buffer::spare_capacity(&mut events),
                Some(&Timespec::try_from(wait)?),
            )?;
            if events.is_empty() && wait == RESPONSE_TIMEOUT {
                return Err(format!("no answer within {} s", RESPONSE_TIMEOUT.as_secs()).into());
            }
            for event in &events {
                let index = usize::try_from(event.data.u64())?;
                if connections[index].receive()? {
                    latencies.push(connections[index].due.elapsed());
                    idle.push_back(index);
                }
            }
        }
        latencies.sort();
        Ok(Latencies(latencies))
    }

    fn connect(&self, epoll: &impl std::os::fd::AsFd) -> Result<Vec<Connection>> {
        let mut connections = Vec::new();
        for index in 0..self.clients {
            let stream = TcpStream::connect(self.address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(epoll, &stream, EventData::new_u64(index as u64), EventFlags::IN)?;
            connections.push(Connection { stream, received: Vec::new(), due: Instant::now() });
        }
        Ok(connections)
    }
}

impl Connection {
    /// Takes what has come; says whether the answer is whole.
    fn receive(&mut self) -> Result<bool> {
        let mut piece = [0; 4096];
        match self.stream.read(&mut piece) {
            Ok(0) => return Err("a connection was closed under load".into()),
            Ok(n) => self.received.extend_from_slice(&piece[..n]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(e) => return Err(e.into()),
        }
        let Some(head) = Head::parse(&self.received)? else { return Ok(false) };
        if self.received.len() < head.length + head.content_length {
            return Ok(false);
        }
        self.received.clear();
        if head.status == 200 { Ok(true) } else { Err(format!("a request got {}", head.status).into()) }
    }
}
