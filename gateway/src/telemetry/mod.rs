//! Telemetry: logs, the access log, metrics, and the request ids that correlate them.

mod access_log;
mod audit;
mod audit_output;
mod exposition;
mod json_text;
mod logging;
mod metrics;
mod panics;
mod request_id;
mod writer;

pub(crate) use access_log::{AccessLog, AccessRecord};
pub(crate) use audit::{AuditEvent, AuditedRequest};
pub use logging::{InitError, Logs, init};
pub use metrics::Metrics;
pub(crate) use metrics::{
    AbortReason, BasicOutcome, EndpointLabel, Gauges, IssuerState, KeyGauge, KeyStateLabel, LoginOutcome,
    ProofOutcome, RefreshOutcome, RouteCounters, RouteLabel, UpstreamOutcome, UpstreamState,
    VerificationOutcome, WorkerMetrics,
};
pub use panics::log_panics;
pub(crate) use request_id::{RequestId, RequestIds};
pub use writer::{LogGuard, LogWriter};
