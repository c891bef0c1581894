//! HTTP requests to issuers with hyper's client: bounded in size and time, over TLS as configured, and only to addresses that may be
//! reached.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::lookup_host;
use tokio::task::spawn_local;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use url::{Host, Url};

use super::address::{Reach, Scope, scope};
use super::shown;
use crate::net::{connect_any, is_localhost};
use crate::tls::in_words;

/// Maximum length of an answer, in bytes.
const MAX_ANSWER_LEN: usize = 1 << 20;
const MAX_REDIRECTS: usize = 3;

/// How issuers are reached.
pub(super) struct Client {
    /// `None` where no address has TLS.
    pub(super) tls: Option<TlsConnector>,
    /// Of one request with everything that belongs to it.
    pub(super) timeout: Duration,
}

/// A JSON answer.
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Where it came from.
    pub(super) from: Scope,
}

/// A connection with or without TLS.
trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// A connection that can take a request.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    to: Scope,
}

impl Connection {
    /// Whether another request can be sent.
    pub(super) fn is_open(&self) -> bool {
        self.sender.is_ready()
    }
}

impl Client {
    /// Gets JSON; follows redirects within the origin.
    ///
    /// # Errors
    ///
    /// Why there is no such answer, in words.
    pub(super) async fn get(&self, url: &Url, reach: Reach) -> Result<Answer, String> {
        let got = self.within_timeout(self.get_without_timeout(url, reach)).await;
        got.map_err(|why| format!("{url} {why}"))
    }

    /// Ends an exchange that takes longer than the issuer may.
    ///
    /// # Errors
    ///
    /// Those of the exchange, or that it took too long.
    pub(super) async fn within_timeout<T>(
        &self,
        exchange: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        timeout(self.timeout, exchange).await.unwrap_or_else(|_| {
            Err(format!("did not answer within {}", humantime::format_duration(self.timeout)))
        })
    }

    async fn get_without_timeout(&self, url: &Url, reach: Reach) -> Result<Answer, String> {
        let mut target = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut connection = self.connect(&target, reach).await?;
            let mut request = request(&target, Method::GET, Bytes::new())?;
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            let response = connection.sender.send_request(request).await.map_err(|error| in_short(&error))?;
            if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
                return read_json(response, connection.to).await;
            }
            target = redirect(&target, response.headers())?;
        }
        Err(format!("redirects more than {MAX_REDIRECTS} times"))
    }

    /// Posts a form with credentials over a connection, and gives the connection back where it stays open.
    ///
    /// # Errors
    ///
    /// Why there is no JSON answer, in words.
    pub(super) async fn post(
        &self,
        connection: &mut Connection,
        url: &Url,
        authorization: &HeaderValue,
        form: String,
    ) -> Result<Answer, String> {
        let mut request = request(url, Method::POST, form.into())?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(http::header::AUTHORIZATION, authorization.clone());
        let response = connection.sender.send_request(request).await.map_err(|error| in_short(&error))?;
        read_json(response, connection.to).await
    }

    /// Connects to the host of a URL.
    pub(super) async fn connect(&self, url: &Url, reach: Reach) -> Result<Connection, String> {
        let port = url.port_or_known_default().unwrap_or(443);
        let addresses = resolve(url, port).await?;
        let allowed: Vec<SocketAddr> =
            addresses.iter().copied().filter(|address| reach.allows(address.ip())).collect();
        let Some(first) = allowed.first() else {
            return Err(match addresses.first() {
                Some(address) => format!(
                    "is at {}, an address that the issuer may not lead to: name it in the configuration if it is right",
                    address.ip()
                ),
                None => "has no address".to_owned(),
            });
        };
        let cannot = |error: std::io::Error| format!("cannot be connected to ({first}): {error}");
        let (tcp, _) = connect_any(&allowed, 0).await.map_err(cannot)?;
        let to = tcp.peer_addr().map_or(Scope::Public, |peer| scope(peer.ip()));
        tcp.set_nodelay(true).map_err(cannot)?;
        let io: Box<dyn Io> = match (url.scheme(), &self.tls) {
            ("https", Some(connector)) => {
                let name = server_name(url)?;
                let stream = connector.connect(name.clone(), tcp).await;
                Box::new(stream.map_err(|error| format!("cannot be trusted: {}", in_words(&error, &name)))?)
            }
            ("https", None) => return Err("cannot be asked: there are no certificates to trust".to_owned()),
            _ => Box::new(tcp),
        };
        let (sender, connection) =
            http1::handshake(TokioIo::new(io)).await.map_err(|error| in_short(&error))?;
        // It ends when the sender and the answer are dropped.
        spawn_local(connection);
        Ok(Connection { sender, to })
    }
}

fn server_name(url: &Url) -> Result<ServerName<'static>, String> {
    let name = match url.host() {
        Some(Host::Domain(name)) => ServerName::try_from(name.to_owned()).ok(),
        Some(Host::Ipv4(address)) => Some(IpAddr::from(address).into()),
        Some(Host::Ipv6(address)) => Some(IpAddr::from(address).into()),
        None => None,
    };
    name.ok_or_else(|| "has no host that a certificate could be for".to_owned())
}

async fn resolve(url: &Url, port: u16) -> Result<Vec<SocketAddr>, String> {
    match url.host() {
        Some(Host::Ipv4(address)) => Ok(vec![SocketAddr::new(address.into(), port)]),
        Some(Host::Ipv6(address)) => Ok(vec![SocketAddr::new(address.into(), port)]),
        Some(Host::Domain(name)) if is_localhost(name) => Ok(vec![
            SocketAddr::from(([127, 0, 0, 1], port)),
            SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port)),
        ]),
        Some(Host::Domain(name)) => match lookup_host((name, port)).await {
            Ok(addresses) => Ok(addresses.collect()),
            Err(error) => Err(format!("cannot be looked up: {error}")),
        },
        None => Err("has no host".to_owned()),
    }
}

fn request(url: &Url, method: Method, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, host)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("auth-gateway/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(body))
        .map_err(|error| format!("is no address for a request: {error}"))
}

/// The target of a redirect: the same scheme, host and port only. Another origin has to be in the configuration.
fn redirect(from: &Url, headers: &HeaderMap) -> Result<Url, String> {
    let location = headers.get(LOCATION).and_then(|location| location.to_str().ok());
    let location = location.ok_or("redirects without an address")?;
    let shown = shown(location, 200);
    let target = from.join(location).map_err(|_| format!("redirects to {shown}, which is no address"))?;
    let is_same = target.scheme() == from.scheme()
        && target.host() == from.host()
        && target.port_or_known_default() == from.port_or_known_default()
        && target.username().is_empty()
        && target.password().is_none();
    match is_same {
        true => Ok(target),
        false => Err(format!(
            "redirects to another origin, which is not followed: {shown}; if that is right, name it in the configuration"
        )),
    }
}

/// Reads an answer that must be JSON.
async fn read_json(response: http::Response<hyper::body::Incoming>, from: Scope) -> Result<Answer, String> {
    let (parts, body) = response.into_parts();
    if parts.status != StatusCode::OK {
        return Err(format!("answers with {}", parts.status));
    }
    check_media_type(&parts.headers)?;
    let read = Limited::new(body, MAX_ANSWER_LEN).collect().await;
    let body = read.map_err(|error| match error.downcast_ref::<http_body_util::LengthLimitError>() {
        Some(_) => "answers with more than 1 MiB".to_owned(),
        None => format!("breaks off its answer: {error}"),
    })?;
    Ok(Answer { headers: parts.headers, body: body.to_bytes(), from })
}

/// Whether an answer says that it is JSON as it stands.
fn check_media_type(headers: &HeaderMap) -> Result<(), String> {
    if let Some(coding) = headers.get(CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        return Err(format!("compresses its answer ({coding:?}) unasked"));
    }
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let essence =
        value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence == "application/json" || essence == "text/json" || essence.ends_with("+json") {
        true => Ok(()),
        false => Err(format!("answers with {value:?}, not with JSON; is it the right address?")),
    }
}

/// hyper's error with its cause.
fn in_short(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("breaks off the exchange: {error}: {cause}"),
        None => format!("breaks off the exchange: {error}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_within_their_origin() {
        let from = Url::parse("https://login.example/a/b?c").unwrap();
        for (location, to) in [
            ("/jwks", Some("https://login.example/jwks")),
            ("keys", Some("https://login.example/a/keys")),
            ("https://login.example/x", Some("https://login.example/x")),
            ("https://LOGIN.example:443/x", Some("https://login.example/x")),
            ("http://login.example/x", None),
            ("https://login.example:8443/x", None),
            ("https://evil.example/x", None),
            ("//169.254.169.254/latest", None),
            ("https://login.example@evil.example/", None),
            ("https://user@login.example/", None),
            ("file:///etc/passwd", None),
            ("gopher://login.example/", None),
        ] {
            let headers = HeaderMap::from_iter([(LOCATION, location.parse().unwrap())]);
            assert_eq!(redirect(&from, &headers).ok().as_ref().map(Url::as_str), to, "{location}");
        }
        assert!(redirect(&from, &HeaderMap::new()).is_err());
    }

    #[test]
    fn only_json_is_read() {
        for (content_type, ok) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/jwk-set+json", true),
            ("text/html", false),
            ("text/plain", false),
            ("application/jsonx", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
            assert_eq!(check_media_type(&headers).is_ok(), ok, "{content_type}");
        }
        assert!(check_media_type(&HeaderMap::new()).is_ok());
        let compressed = HeaderMap::from_iter([(CONTENT_ENCODING, "gzip".parse().unwrap())]);
        assert!(check_media_type(&compressed).is_err());
    }
}
