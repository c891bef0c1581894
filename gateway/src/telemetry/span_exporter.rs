//! Export of spans to an OpenTelemetry collector, by OTLP over HTTP, from a thread of its own: a request never waits
//! for the collector.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::spans::text;
use super::writer::wait_for_end;
use crate::config::Collector;
use crate::tls::client_config;

/// Spans are sent when so many have come, or so long after the first.
const BATCH_SPANS: usize = 512;
const BATCH_DELAY: Duration = Duration::from_secs(1);
/// Timeout of one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// A batch that the collector does not take for the moment is sent again so often, after a pause that doubles.
const MAX_RETRIES: u32 = 4;
const RETRY_DELAY: Duration = Duration::from_secs(1);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);
/// How long the end of the process waits for the last spans.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum length of a response's body, in bytes.
const MAX_RESPONSE: usize = 64 * 1024;
/// The schema of the attributes' names.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.27.0";

/// Sends spans to a collector. What it does not take in time is dropped, and counted.
#[derive(Debug)]
pub(crate) struct SpanExporter {
    sender: SyncSender<Message>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Message {
    Span(Box<Span>),
    /// Wakes the thread, which finds that it is to stop.
    Stop,
}

#[derive(Debug, Default)]
struct Shared {
    exported: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    stopping: AtomicBool,
}

/// How many spans went which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SpanCounts {
    /// Taken by the collector.
    pub(crate) exported: u64,
    /// Not sent: the queue was full.
    pub(crate) dropped: u64,
    /// Sent, and not taken.
    pub(crate) failed: u64,
}

impl SpanExporter {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The trusted certificates cannot be read, or no thread can be started.
    pub(crate) fn start(collector: Collector) -> Result<SpanExporter, String> {
        let tls =
            collector.endpoint.secure.then(|| client_config(collector.ca_file.as_ref(), None)).transpose()?;
        let (sender, receiver) = sync_channel(collector.queue);
        let shared = Arc::new(Shared::default());
        let tls = tls.map(|config| TlsConnector::from(Arc::new(config)));
        let client = Client { collector, tls, shared: Arc::clone(&shared), is_failing: false };
        let thread = thread::Builder::new().name("span-exporter".into()).spawn(move || client.run(&receiver));
        let thread = thread.map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(SpanExporter { sender, shared, thread: Mutex::new(Some(thread)) })
    }

    /// Queues a span, or drops it.
    pub(crate) fn send(&self, span: Span) {
        if self.sender.try_send(Message::Span(Box::new(span))).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn counts(&self) -> SpanCounts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Shared { exported, dropped, failed, .. } = &*self.shared;
        SpanCounts { exported: of(exported), dropped: of(dropped), failed: of(failed) }
    }

    /// Sends what is queued, within a few seconds, and stops. Blocking.
    pub(crate) fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        // Where the queue is full, the thread is awake.
        let _ = self.sender.try_send(Message::Stop);
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        wait_for_end(&thread, FLUSH_TIMEOUT);
    }
}

/// The exporting thread.
struct Client {
    collector: Collector,
    tls: Option<TlsConnector>,
    shared: Arc<Shared>,
    /// Whether the last batch failed: each outage is logged once.
    is_failing: bool,
}

/// Why a batch was not taken.
enum SendError {
    /// It never will be.
    Final(String),
    /// It may be later, after this time if the collector says so.
    Temporary(String, Option<Duration>),
}

impl Client {
    fn run(mut self, receiver: &Receiver<Message>) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(%error, "no spans are exported"),
        };
        loop {
            let mut batch = Vec::new();
            let mut ended = self.shared.stopping.load(Ordering::Acquire);
            match if ended { receiver.try_recv().map_err(drop) } else { receiver.recv().map_err(drop) } {
                Ok(Message::Span(span)) => batch.push(*span),
                Ok(Message::Stop) => continue,
                Err(()) => return,
            }
            let due = Instant::now() + BATCH_DELAY;
            while batch.len() < BATCH_SPANS {
                let wait = if ended { Duration::ZERO } else { due.saturating_duration_since(Instant::now()) };
                match receiver.recv_timeout(wait) {
                    Ok(Message::Span(span)) => batch.push(*span),
                    Ok(Message::Stop) => ended = true,
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
            }
            runtime.block_on(self.export(batch));
        }
    }

    async fn export(&mut self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        let body = Bytes::from(self.request(spans).encode_to_vec());
        let mut delay = RETRY_DELAY;
        let mut retries = 0;
        let error = loop {
            let attempt = timeout(ATTEMPT_TIMEOUT, self.send(body.clone())).await;
            let attempt =
                attempt.unwrap_or_else(|_| Err(SendError::Temporary("no answer in time".into(), None)));
            match attempt {
                Ok(rejected) => {
                    let rejected = rejected.min(count);
                    self.shared.failed.fetch_add(rejected, Ordering::Relaxed);
                    self.shared.exported.fetch_add(count - rejected, Ordering::Relaxed);
                    if std::mem::take(&mut self.is_failing) {
                        tracing::info!("the collector takes spans again");
                    }
                    return;
                }
                Err(SendError::Final(error)) => break error,
                Err(SendError::Temporary(error, after)) => {
                    if retries == MAX_RETRIES
                        || !self.pause(after.unwrap_or(delay).min(MAX_RETRY_DELAY)).await
                    {
                        break error;
                    }
                    retries += 1;
                    delay *= 2;
                }
            }
        };
        self.shared.failed.fetch_add(count, Ordering::Relaxed);
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(error, "the collector of tracing.otlp.endpoint takes no spans; they are dropped");
        }
    }

    /// Waits; returns whether to go on, which is not so at the end of the process.
    async fn pause(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if self.shared.stopping.load(Ordering::Acquire) {
                return false;
            }
            sleep(Duration::from_millis(50)).await;
        }
        !self.shared.stopping.load(Ordering::Acquire)
    }

    fn request(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let version = env!("CARGO_PKG_VERSION");
        let resource = [
            text("service.name", &self.collector.service_name),
            text("service.version", version),
            text("telemetry.sdk.language", "rust"),
            text("telemetry.sdk.name", "auth-gateway"),
        ];
        let scope = InstrumentationScope {
            name: "auth-gateway".to_owned(),
            version: version.to_owned(),
            ..InstrumentationScope::default()
        };
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource { attributes: resource.into(), ..Resource::default() }),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope),
                    spans,
                    schema_url: SCHEMA_URL.to_owned(),
                }],
                schema_url: SCHEMA_URL.to_owned(),
            }],
        }
    }

    /// Sends a batch over a connection of its own; returns how many of its spans were rejected.
    async fn send(&self, body: Bytes) -> Result<u64, SendError> {
        let failed = |error: io::Error| SendError::Temporary(error.to_string(), None);
        let endpoint = &self.collector.endpoint;
        let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(failed)?;
        match &self.tls {
            None => self.post(TokioIo::new(tcp), body).await,
            Some(tls) => {
                let name = ServerName::try_from(endpoint.host.clone());
                let name = name.map_err(|error| SendError::Final(error.to_string()))?;
                let connected = tls.connect(name, tcp).await.map_err(failed)?;
                self.post(TokioIo::new(connected), body).await
            }
        }
    }

    async fn post<T>(&self, io: T, body: Bytes) -> Result<u64, SendError>
    where
        T: Read + Write + Unpin + Send + 'static,
    {
        let failed = |error: hyper::Error| SendError::Temporary(error.to_string(), None);
        let (mut sender, connection) = http1::handshake(io).await.map_err(failed)?;
        tokio::spawn(connection);
        let request = self.http_request(body).map_err(|error| SendError::Final(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(failed)?;
        let (head, body) = response.into_parts();
        let after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = Limited::new(body, MAX_RESPONSE).collect().await.map(|body| body.to_bytes());
        match head.status {
            status if status.is_success() => {
                let response = ExportTraceServiceResponse::decode(body.unwrap_or_default());
                let partial = response.unwrap_or_default().partial_success.unwrap_or_default();
                Ok(u64::try_from(partial.rejected_spans).unwrap_or_default())
            }
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                Err(SendError::Temporary(format!("status {}", head.status), after.map(Duration::from_secs)))
            }
            status => Err(SendError::Final(format!("status {status}"))),
        }
    }

    fn http_request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, http::Error> {
        let Collector { endpoint, headers, .. } = &self.collector;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(endpoint.path.as_str())
            .header(HOST, endpoint.authority())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))
            .header(USER_AGENT, concat!("auth-gateway/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, HeaderValue::from_static("close"))
            .body(Full::new(body))?;
        request.headers_mut().extend(headers.iter().cloned());
        Ok(request)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;
    use crate::config::OtlpEndpoint;

    fn exporter(port: u16, queue: usize) -> SpanExporter {
        let endpoint =
            OtlpEndpoint { secure: false, host: "127.0.0.1".into(), port, path: "/v1/traces".into() };
        let key = (http::HeaderName::from_static("x-key"), HeaderValue::from_static("k"));
        SpanExporter::start(Collector {
            endpoint,
            headers: vec![key],
            ca_file: None,
            service_name: "test".into(),
            queue,
        })
        .unwrap()
    }

    /// Answers so many requests with these statuses and returns their heads and bodies.
    fn collector(
        listener: TcpListener,
        statuses: &'static [&'static str],
    ) -> JoinHandle<Vec<(String, Vec<u8>)>> {
        thread::spawn(move || {
            let answer = |status: &&str| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut received = Vec::new();
                let mut buffer = [0; 4096];
                loop {
                    let len = stream.read(&mut buffer).unwrap();
                    received.extend_from_slice(&buffer[..len]);
                    let Some(end) = received.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
                    let head = String::from_utf8(received[..end].to_vec()).unwrap().to_ascii_lowercase();
                    let length: usize = head
                        .split("content-length: ")
                        .nth(1)
                        .unwrap()
                        .lines()
                        .next()
                        .unwrap()
                        .parse()
                        .unwrap();
                    if received.len() == end + 4 + length {
                        let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                        stream.write_all(head.as_bytes()).unwrap();
                        return (
                            String::from_utf8(received[..end].to_vec()).unwrap(),
                            received[end + 4..].to_vec(),
                        );
                    }
                }
            };
            statuses.iter().map(answer).collect()
        })
    }

    #[test]
    fn spans_are_sent_together_again_after_a_refusal_and_at_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let exporter = exporter(listener.local_addr().unwrap().port(), 100);
        let collector = collector(listener, &["503 x\r\nRetry-After: 0", "200 OK", "200 OK"]);
        for name in ["a", "b"] {
            exporter.send(Span { name: name.into(), ..Span::default() });
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while exporter.counts().exported < 2 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        exporter.send(Span { name: "c".into(), ..Span::default() });
        exporter.stop();
        assert_eq!(exporter.counts(), SpanCounts { exported: 3, dropped: 0, failed: 0 });
        let requests = collector.join().unwrap();
        let names = |body: &Vec<u8>| -> Vec<String> {
            let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
            request.resource_spans[0].scope_spans[0].spans.iter().map(|span| span.name.clone()).collect()
        };
        let sent: Vec<_> = requests.iter().map(|(_, body)| names(body)).collect();
        assert_eq!(sent, [vec!["a", "b"], vec!["a", "b"], vec!["c"]]);
        let head = requests[0].0.to_ascii_lowercase();
        for line in ["post /v1/traces http/1.1", "content-type: application/x-protobuf", "x-key: k"] {
            assert!(head.contains(line), "{head}");
        }
    }

    #[test]
    fn what_a_collector_never_takes_is_counted_and_a_full_queue_drops() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let exporter = exporter(listener.local_addr().unwrap().port(), 1);
        let collector = collector(listener, &["400 Bad Request"]);
        exporter.send(Span::default());
        let deadline = Instant::now() + Duration::from_secs(20);
        while exporter.counts().failed == 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        collector.join().unwrap();
        assert_eq!(exporter.counts().failed, 1);
        // No collector listens any more: the first of these is being tried, and the queue holds one.
        (0..BATCH_SPANS * 4).for_each(|_| exporter.send(Span::default()));
        assert!(exporter.counts().dropped > 0);
        let stopped = Instant::now();
        exporter.stop();
        assert!(stopped.elapsed() < FLUSH_TIMEOUT, "the end waits for no retry");
    }
}
