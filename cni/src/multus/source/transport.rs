// SPDX-License-Identifier: Apache-2.0
//! HTTP transport to the API server: kube's own stack, with a connector that knows proxies and looks names up
//! without the C library, and a verifier that takes a certificate for its own authority, both as Go's client does. It also leaves out Nagle's algorithm: with
//! the server's delayed acknowledgement every question would wait 40 ms.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::ConfigExt;
use kube::{Client, Config};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tonic::codegen::http::{Response, Uri, header};
use tower::{BoxError, Service, ServiceBuilder};

use super::names::Names;
use super::proxy::Proxy;

/// Time limit of a name's lookup where the configuration has none for connections.
const LOOKUP: Duration = Duration::from_secs(5);
/// Silence after which a connection is probed.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Answer that no API server gives.
#[derive(Debug, thiserror::Error)]
pub(super) enum StrangeAnswer {
    /// Redirection, which no client of the API follows.
    #[error(
        "answers {status} and sends on to {location:?}: name the API server itself in the kubeconfig"
    )]
    Redirect {
        /// HTTP status code.
        status: u16,
        /// `Location` header.
        location: String,
    },
    /// Page for people.
    #[error(
        "answers {status} with a page of {kind} in place of JSON: something else is at that address"
    )]
    Page {
        /// HTTP status code.
        status: u16,
        /// `Content-Type` header.
        kind: String,
    },
}

/// Failure of a proxy.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    /// Connection to the proxy or through it failed.
    #[error("proxy {proxy} (from {from}): {source}")]
    Connect {
        /// Address of the proxy.
        proxy: Uri,
        /// Source of the address.
        from: &'static str,
        /// Failure of the connection.
        source: io::Error,
    },
    /// Proxy refuses the tunnel.
    #[error(
        "proxy {proxy} (from {from}) refuses the way to {to}: {said}; name the API server in NO_PROXY if it \
         needs no proxy"
    )]
    Refused {
        /// Address of the proxy.
        proxy: Uri,
        /// Source of the address.
        from: &'static str,
        /// Server that was asked for.
        to: String,
        /// Status line of the answer.
        said: String,
        /// Status code of the answer; 0 if there was none.
        code: u16,
    },
}

/// Makes a client of a configuration.
pub(super) fn client(config: Config, proxy: Option<Proxy>) -> kube::Result<Client> {
    let limit = config.connect_timeout.unwrap_or(LOOKUP);
    let mut http = HttpConnector::new_with_resolver(Names::new(limit));
    http.enforce_http(false);
    http.set_nodelay(true);
    // A server that vanished without a word is noticed by those who watch it.
    http.set_keepalive(Some(KEEPALIVE));
    http.set_connect_timeout(config.connect_timeout);
    let connector = https(&config, Connector { http, proxy })?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .map_err(BoxError::from)
        .and_then(async |answer| check(answer))
        .service(HttpClient::builder(TokioExecutor::new()).build(connector));
    Ok(Client::new(service, config.default_namespace))
}

fn check<B>(answer: Response<B>) -> Result<Response<B>, BoxError> {
    let status = answer.status();
    let header = |name| {
        let value = answer.headers().get(name);
        let text = value.and_then(|value| value.to_str().ok());
        text.unwrap_or_default().to_owned()
    };
    if status.is_redirection() {
        let location = header(header::LOCATION);
        let status = status.as_u16();
        return Err(StrangeAnswer::Redirect { status, location }.into());
    }
    let kind = header(header::CONTENT_TYPE);
    if kind.starts_with("text/html") && !status.is_server_error() {
        let status = status.as_u16();
        return Err(StrangeAnswer::Page { status, kind }.into());
    }
    Ok(answer)
}

fn https(config: &Config, connector: Connector) -> kube::Result<HttpsConnector<Connector>> {
    let mut tls = config.rustls_client_config()?;
    if let Some(authorities) = &config.root_cert
        && !config.accept_invalid_certs
    {
        let authorities: Vec<CertificateDer<'static>> = authorities
            .iter()
            .map(|der| CertificateDer::from(der.clone()))
            .collect();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.iter().cloned());
        let provider = Arc::clone(tls.crypto_provider());
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        if let Ok(chains) = chains {
            let verifier = OwnAuthority {
                chains,
                authorities,
            };
            tls.dangerous().set_certificate_verifier(Arc::new(verifier));
        }
    }
    let mut builder = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http();
    if let Some(name) = &config.tls_server_name
        && let Ok(name) = ServerName::try_from(name.clone())
    {
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    Ok(builder.enable_http1().wrap_connector(connector))
}

/// Verifier that also takes a serving certificate which is itself among the authorities, as Go's does: that of
/// `openssl req -x509`, say. Webpki refuses those, since an authority is no server to it.
#[derive(Debug)]
struct OwnAuthority {
    chains: Arc<WebPkiServerVerifier>,
    authorities: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for OwnAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = self.chains.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verdict {
            // "It is an authority" and "its issuer is unknown". Its dates have been checked before both.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Other(_) | CertificateError::UnknownIssuer,
            )) if self
                .authorities
                .iter()
                .any(|authority| authority == end_entity) =>
            {
                let certificate = ParsedCertificate::try_from(end_entity)?;
                verify_server_name(&certificate, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Connector of TCP connections, through a proxy if there is one.
#[derive(Debug, Clone)]
struct Connector {
    http: HttpConnector<Names>,
    proxy: Option<Proxy>,
}

type Connecting = Pin<Box<dyn Future<Output = Result<TokioIo<TcpStream>, BoxError>> + Send>>;

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Connecting;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(context).map_err(BoxError::from)
    }

    fn call(&mut self, to: Uri) -> Connecting {
        let Some(proxy) = self.proxy.clone() else {
            let connecting = self.http.call(to);
            return Box::pin(async { connecting.await.map_err(BoxError::from) });
        };
        let connecting = self.http.call(proxy.uri.clone());
        Box::pin(async move {
            let failed = |source: io::Error| ProxyError::Connect {
                proxy: proxy.uri.clone(),
                from: proxy.from,
                source,
            };
            let stream = connecting
                .await
                .map_err(|error| failed(io::Error::other(error)))?
                .into_inner();
            let host = to.host().unwrap_or_default();
            let to = format!("{host}:{}", to.port_u16().unwrap_or(443));
            let answer = tunnel(&stream, &to, proxy.authorization.as_deref())
                .await
                .map_err(failed)?;
            let said = answer.lines().next().unwrap_or_default().to_owned();
            let code = said.split(' ').nth(1).and_then(|code| code.parse().ok());
            match code.unwrap_or(0) {
                200..=299 => Ok(TokioIo::new(stream)),
                code => Err(ProxyError::Refused {
                    proxy: proxy.uri,
                    from: proxy.from,
                    to,
                    said,
                    code,
                }
                .into()),
            }
        })
    }
}

/// Asks a proxy for a tunnel and returns the head of its answer.
async fn tunnel(stream: &TcpStream, to: &str, authorization: Option<&str>) -> io::Result<String> {
    let authorization = authorization.map_or_else(String::new, |value| {
        format!("Proxy-Authorization: {value}\r\n")
    });
    let request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{authorization}\r\n");
    let mut rest = request.as_bytes();
    while !rest.is_empty() {
        stream.writable().await?;
        match stream.try_write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // One byte at a time: what follows the head is the server's.
        let mut byte = [0];
        stream.readable().await?;
        match stream.try_read(&mut byte) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) if head.len() >= 8_192 => {
                return Err(io::Error::other("the head of its answer does not end"));
            }
            Ok(_) => head.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
