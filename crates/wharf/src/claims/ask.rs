//! One question to an app, or to the server it names: is that name yours?

use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{Request, Version};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use model::claim::AskRule;
use model::id::AppId;
use model::name::DomainName;
use model::route::protocol::Protocol;
use model::route::{EndpointAddress, UpstreamState};
use tokio::net::TcpStream;

use crate::certificates::acme::http::{Boxed, Http};
use crate::context::Context;
use crate::dns::Resolver;

/// A slower answer is none.
const LIMIT: Duration = Duration::from_secs(2);

/// By this an app knows who asks.
const AGENT: &str = "wharf-ask";

/// Asks.
#[derive(Debug)]
pub(super) struct Asker {
    context: Context,
    http: Http,
}

impl Asker {
    pub(super) fn new(context: &Context) -> Result<Self, Boxed> {
        let resolver = context.config.acme.as_ref().and_then(|acme| acme.resolver);
        let http = Http::new(Resolver::new(resolver), None)?;
        Ok(Self { context: context.clone(), http })
    }

    /// What is asked, as people read it.
    pub(super) fn name(&self, rule: &AskRule, host: &DomainName) -> String {
        match rule {
            AskRule::Path(_) => format!("GET {}", rule.target(host)),
            AskRule::Url(server, _) => format!("GET {server}{}", rule.target(host)),
        }
    }

    /// The status of the answer, or why there was none.
    pub(super) async fn ask(
        &self,
        app: AppId,
        rule: &AskRule,
        host: &DomainName,
    ) -> Result<u16, String> {
        let asked = async {
            match rule {
                AskRule::Path(_) => self.ask_replica(app, &rule.target(host)).await,
                AskRule::Url(server, _) => {
                    let request = Request::get(format!("{server}{}", rule.target(host)))
                        .header(USER_AGENT, AGENT)
                        .body(Empty::<Bytes>::new())?;
                    Ok(self.http.ask(request).await?.status().as_u16())
                }
            }
        };
        match tokio::time::timeout(LIMIT, asked).await {
            Ok(asked) => asked.map_err(|error| error.to_string()),
            Err(_) => Err(format!("not within {} s", LIMIT.as_secs())),
        }
    }

    /// Asks the first replica that can be reached, as the health probe does: not by the proxy, whose
    /// redirects and passwords are for visitors.
    async fn ask_replica(&self, app: AppId, target: &str) -> Result<u16, Boxed> {
        let deploys = &self.context.deploys;
        let mut part = deploys.served(app).await.ok_or("nothing of it serves")?;
        if part.upstream.state == UpstreamState::Asleep {
            deploys.wake_up(app).await;
            part = deploys.served(app).await.ok_or("nothing of it serves")?;
        }
        let upstream = &part.upstream;
        if upstream.protocol != Protocol::Http1 {
            return Err("a path is asked over HTTP/1, which it does not speak: give a URL".into());
        }
        let own_host = format!("{}.{}", upstream.app, self.context.config.domain);
        let mut last: Boxed = "no replica of it serves".into();
        for endpoint in &upstream.endpoints {
            let EndpointAddress::Namespace { target: address, .. } = &endpoint.address else {
                continue;
            };
            match self.context.backend.connect(endpoint.replica, *address).await {
                Ok(stream) => return get(stream, &own_host, target).await,
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }
}

async fn get(stream: TcpStream, host: &str, target: &str) -> Result<u16, Boxed> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(target)
        .version(Version::HTTP_11)
        .header(HOST, host)
        .header(USER_AGENT, AGENT)
        // Apps that send plain requests to HTTPS would answer nothing else.
        .header("x-forwarded-proto", "https")
        .body(Empty::<Bytes>::new())?;
    tokio::select! {
        answer = sender.send_request(request) => Ok(answer?.status().as_u16()),
        ended = connection => Err(match ended {
            Ok(()) => "it closed the connection".into(),
            Err(error) => error.into(),
        }),
    }
}
