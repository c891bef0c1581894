//! Telemetry: logs, the access log, metrics, and the request ids that correlate them.

mod access_log;
mod audit;
mod audit_output;
mod exposition;
mod json_text;
mod logged_request;
mod logging;
mod metrics;
mod panics;
mod request_id;
mod span_exporter;
mod spans;
mod trace_context;
mod writer;

pub(crate) use access_log::{AccessLog, AccessRecord};
pub(crate) use audit::{AuditEvent, AuditedRequest};
pub(crate) use logged_request::{logged_host, logged_request_line};
pub use logging::{InitError, Logs, init};
pub use metrics::Metrics;
pub(crate) use metrics::{
    AbortReason, BasicOutcome, EndpointLabel, Gauges, IssuerState, KeyGauge, KeyStateLabel, LoginOutcome,
    ProofOutcome, RefreshOutcome, RouteCounters, RouteLabel, Totals, UpstreamOutcome, UpstreamState,
    VerificationOutcome, WorkerMetrics,
};
pub use panics::log_panics;
pub(crate) use request_id::{RequestId, RequestIds};
pub(crate) use span_exporter::SpanExporter;
pub(crate) use spans::{FinishedRequest, FinishedUpstreamRequest, spans};
pub(crate) use trace_context::{TraceContext, TracePolicy};
pub use writer::{LogGuard, LogWriter};
