//! `[tracing]`: W3C trace context, and spans for an OpenTelemetry collector.

use http::{HeaderName, HeaderValue};
use url::Url;

use super::prelude::*;

section! {
    /// Distributed tracing: W3C trace context (traceparent, tracestate), and spans for OpenTelemetry.
    pub struct Tracing {
        /// Whether requests belong to traces: log lines have trace_id and span_id, and upstreams get traceparent. Without it
        /// the client's traceparent passes like any other field.
        enabled: bool = boolean().default("false");
        /// Whose traceparent is continued: "trusted": that of server.trusted_proxies; "always": everyone's; "never".
        accept: TraceSource = choice().default("trusted")
            .only_where(|tracing| tracing.entry("enabled").is_given(), "`enabled` is missing");
        /// Whether a request without an accepted traceparent begins a trace.
        generate: bool = boolean().default("true")
            .only_where(|tracing| tracing.entry("enabled").is_given(), "`enabled` is missing");
        /// The share of new traces that are sampled, from 0 to 1. A continued trace is sampled where its caller says so.
        sample_ratio: u64 = ratio().default("1")
            .only_where(|tracing| tracing.entry("enabled").is_given(), "`enabled` is missing");
        /// The collector that gets spans. Without one no spans are made.
        otlp: Option<Collector> = group_table::<Collector>().restart();
    }
}

section! {
    /// The collector that gets spans. Without one no spans are made.
    pub struct Collector {
        /// Its address: OTLP over HTTP (protobuf). Without a path it is /v1/traces.
        endpoint: OtlpEndpoint = or_default(text(endpoint).example("\"http://127.0.0.1:4318\""));
        /// Header fields for it, one `Name: value` in each line.
        headers: Vec<(HeaderName, HeaderValue)> =
            or_default(secret("\"secrets/otlp-headers\"", "\"Authorization: Bearer …\"").parse(headers));
        /// Certificates (PEM) that the collector's is verified with, in place of the system's.
        ca_file: Option<PathBuf> = text(existing_file).example("\"tls/collector-ca.pem\"");
        /// The attribute service.name.
        service_name: String = text(service_name).default("auth-gateway");
        /// Spans that wait for the collector. What does not fit is dropped and counted.
        queue: usize = integer(1..=1_000_000).default("2048");
    }
}

/// The address of a collector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OtlpEndpoint {
    /// Whether it has TLS.
    pub secure: bool,
    /// A DNS name or an IP address, without brackets.
    pub host: String,
    /// Default 80 or 443.
    pub port: u16,
    /// What follows the authority.
    pub path: String,
}

impl OtlpEndpoint {
    /// Host and port as a `Host` field has them.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{host}:{}", self.port)
    }
}

/// Whose `traceparent` is continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TraceSource {
    /// That of trusted proxies.
    Trusted,
    /// Everyone's.
    Always,
    /// No one's.
    Never,
}

impl Tracing {
    pub(super) fn check(&self, table: &Table<'_>) {
        if self.otlp.is_some() && !self.enabled {
            table.entry("otlp").warn(
                "tracing-off",
                "no spans are sent, for tracing is not enabled",
                "add enabled = true to [tracing]",
            );
        }
    }
}

fn endpoint(text: &str) -> Result<OtlpEndpoint, InvalidValue> {
    let help = "write it like \"http://127.0.0.1:4318\"";
    let refuse = |why: &str| InvalidValue::new(format!("{} {why}", quoted(text))).help(help);
    let url = Url::parse(text).map_err(|_| refuse("is no URL"))?;
    let secure = match url.scheme() {
        "http" => false,
        "https" => true,
        _ => return Err(refuse("is neither http:// nor https://")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("has a user").help("put credentials into tracing.otlp.headers_file"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("has a query or a fragment"));
    }
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port().unwrap_or(if secure { 443 } else { 80 });
    let path = match url.path() {
        "/" => "/v1/traces".to_owned(),
        path => path.to_owned(),
    };
    Ok(OtlpEndpoint { secure, host, port, path })
}

fn headers(bytes: Vec<u8>) -> Result<Vec<(HeaderName, HeaderValue)>, InvalidValue> {
    let line = |line: &[u8]| {
        let colon = line.iter().position(|&b| b == b':')?;
        let name = HeaderName::from_bytes(line[..colon].trim_ascii()).ok()?;
        let mut value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    };
    let lines = bytes.split(|&b| b == b'\n').filter(|line| !line.trim_ascii().is_empty());
    lines.map(line).collect::<Option<_>>().ok_or_else(|| {
        // The value is a secret.
        InvalidValue::new("a line of it is no header field").help("write each as `Name: value`")
    })
}

fn service_name(text: &str) -> Result<String, InvalidValue> {
    match text.trim().is_empty() {
        true => refused("is empty", "leave the key out for the default"),
        false => Ok(text.to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::test_support::{load_diagnostics, load_text, minimal, settings};
    use super::*;

    #[test]
    fn tracing_is_off_and_samples_everything_where_it_is_on() {
        let tracing = settings(minimal()).tracing;
        assert_eq!(
            (tracing.enabled, tracing.accept, tracing.sample_ratio),
            (false, TraceSource::Trusted, u64::MAX)
        );
        assert_eq!(tracing.otlp, None);
        for (ratio, sample) in [("0", 0), ("0.0", 0), ("1", u64::MAX), ("0.5", u64::MAX / 2 + 1)] {
            let config = minimal() + &format!("[tracing]\nenabled = true\nsample_ratio = {ratio}");
            assert_eq!(settings(config).tracing.sample_ratio, sample, "{ratio}");
        }
    }

    #[test]
    fn a_collector_is_named_by_its_address() {
        for (text, secure, host, port, path) in [
            ("http://127.0.0.1:4318", false, "127.0.0.1", 4318, "/v1/traces"),
            ("http://127.0.0.1:4318/", false, "127.0.0.1", 4318, "/v1/traces"),
            ("https://otlp.example/api/v1/traces", true, "otlp.example", 443, "/api/v1/traces"),
            ("http://[::1]:4318", false, "::1", 4318, "/v1/traces"),
        ] {
            let found = endpoint(text).unwrap();
            assert_eq!(
                (found.secure, found.host.as_str(), found.port, found.path.as_str()),
                (secure, host, port, path)
            );
        }
        assert_eq!(endpoint("http://[::1]:4318").unwrap().authority(), "[::1]:4318");
        let config = "[tracing]\nenabled = true\n[tracing.otlp]\nendpoint = \"http://c:4318\"\nheaders = \"X-Key: a b\\nY: c\"";
        let collector = settings(minimal() + config).tracing.otlp.unwrap();
        let headers: Vec<_> =
            collector.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(headers, [("x-key", "a b"), ("y", "c")]);
        assert!(!format!("{collector:?}").contains("a b"));
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_remedy() {
        for (config, message, help) in [
            ("otlp.endpoint = \"127.0.0.1:4318\"", "is no URL", "http://127.0.0.1:4318"),
            ("otlp.endpoint = \"grpc://c:4317\"", "is neither http:// nor https://", "http://127.0.0.1:4318"),
            ("otlp.endpoint = \"http://a:b@c:4318\"", "has a user", "headers_file"),
            ("otlp.endpoint = \"http://c/x?y\"", "has a query", ""),
            (
                "enabled = true\notlp.endpoint = \"http://c\"\notlp.headers = \"no field\"",
                "no header field",
                "Name: value",
            ),
            ("sample_ratio = 1.5", "must be from 0 to 1, found 1.5", ""),
            ("sample_ratio = -1", "must be from 0 to 1, found -1", ""),
            ("sample_ratio = \"10%\"", "expected a number from 0 to 1, found string `10%`", "0.1"),
            ("accept = \"all\"", "unknown value `all`", "always"),
            ("otlp.queue = 0", "must be from 1", ""),
        ] {
            load_diagnostics(minimal() + "[tracing]\n" + config).only(message, help);
        }
        let idle = load_text(minimal() + "[tracing.otlp]\nendpoint = \"http://c:4318\"")
            .unwrap()
            .warnings
            .to_string();
        assert!(idle.contains("tracing is not enabled"), "{idle}");
    }
}
