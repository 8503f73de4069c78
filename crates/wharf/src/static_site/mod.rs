//! The role `wharf static`: serves a folder of files over HTTP, inside a container.
//!
//! What a file's answer is, conditions, ranges and compressed neighbours among it, is the proxy's to say
//! (`proxy::files`): the edge serves files by the same rules. Here is what makes a site of them: a path
//! that is no file is answered with the fallback (single-page apps) or with the site's own 404.html.

use std::convert::Infallible;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use axum::body::Body;
use http::header::{ALLOW, CACHE_CONTROL, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use proxy::files::{Ask, Folder, Options};

/// What to serve, and where.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "wharf static", about = "Serve a folder of files over HTTP")]
pub struct StaticOptions {
    /// The folder that is served
    #[arg(long)]
    pub root: PathBuf,
    /// The port to listen on
    #[arg(long, env = "PORT", default_value_t = 8080)]
    pub port: u16,
    /// The file that answers for every path that is none, relative to the root
    #[arg(long)]
    pub fallback: Option<PathBuf>,
}

/// Runs until TERM or INT, then finishes what is being answered.
pub fn static_main(arguments: &[OsString]) -> ExitCode {
    let name = std::iter::once(OsString::from("wharf static"));
    let options: StaticOptions = clap::Parser::parse_from(name.chain(arguments.iter().cloned()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(serve(&options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("cannot serve `{}`: {error}", options.root.display()));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "inside the container this is the app, its stderr its log")]
fn complain(text: &str) {
    eprintln!("wharf static: {text}");
}

async fn serve(options: &StaticOptions) -> std::io::Result<()> {
    if !options.root.is_dir() {
        return Err(std::io::Error::other("it is no folder of the app"));
    }
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], options.port)));
    let listener = listener.await?;
    at_once(&listener)?;
    complain(&format!("serving `{}` on port {}", options.root.display(), options.port));
    let site = Site::new(options)?;
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let graceful = hyper_util::server::graceful::GracefulShutdown::new();
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                // The peer went away, or no file descriptor is free just now.
                Err(_) => { tokio::task::yield_now().await; continue }
            },
            _ = term.recv() => break,
            _ = tokio::signal::ctrl_c() => break,
        };
        let service = {
            let site = site.clone();
            hyper::service::service_fn(move |request| {
                let site = site.clone();
                async move { Ok::<_, Infallible>(site.answer(request).await) }
            })
        };
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        #[expect(
            clippy::disallowed_methods,
            reason = "a role of its own, not the daemon: joined below"
        )]
        tokio::spawn(async move {
            // A connection that broke is the visitor's to notice.
            let _ = connection.await;
        });
    }
    drop(listener);
    let limit = std::time::Duration::from_secs(25);
    let _ = tokio::time::timeout(limit, graceful.shutdown()).await;
    Ok(())
}

/// An answer's head and its file are written apart: what is accepted sends the file without waiting until
/// the head was acknowledged, which takes the other side 40 ms (RFC 1122, 4.2.3.2). For those accepted,
/// because on Linux the option comes with the listener.
fn at_once(listener: &tokio::net::TcpListener) -> std::io::Result<()> {
    Ok(rustix::net::sockopt::set_tcp_nodelay(listener, true)?)
}

/// The folder as a service.
#[derive(Debug, Clone)]
pub struct Site {
    folder: Folder,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The site's own page for what is not there.
const NOT_FOUND: &str = "404.html";

impl Site {
    /// A site of these options; release and replica are said in headers.
    pub fn new(options: &StaticOptions) -> std::io::Result<Self> {
        let named = |name: &'static str, variable: &str| {
            let value = std::env::var(variable).ok()?;
            Some((HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?))
        };
        let fallback = options.fallback.as_ref().map(|file| file.to_string_lossy().into_owned());
        Ok(Self {
            folder: Folder::open(&options.root, Options { fallback, ..Options::default() })?,
            headers: [
                named("x-wharf-release", "WHARF_RELEASE"),
                named("x-wharf-replica", "WHARF_REPLICA"),
            ]
            .into_iter()
            .flatten()
            .collect(),
        })
    }

    /// One request.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body> {
        let (head, _body) = request.into_parts();
        let request = Request::from_parts(head, ());
        let mut response = match *request.method() {
            Method::GET | Method::HEAD => match self.find(&request).await {
                Ok(response) => response,
                Err(error) => {
                    complain(&format!("cannot read `{}`: {error}", request.uri().path()));
                    plain(StatusCode::INTERNAL_SERVER_ERROR, "the file could not be read\n")
                }
            },
            _ => {
                let text = "only GET and HEAD are understood here\n";
                let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, text);
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                response
            }
        };
        response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
        for (name, value) in &self.headers {
            response.headers_mut().insert(name, value.clone());
        }
        response
    }

    async fn find(&self, request: &Request<()>) -> std::io::Result<Response<Body>> {
        if let Some(found) = self.folder.answer(Ask::whole(request)).await? {
            return Ok(found.map(Body::new));
        }
        let own = self.folder.page(NOT_FOUND).await?.map(|page| page.map(Body::new));
        let mut response =
            own.unwrap_or_else(|| plain(StatusCode::NOT_FOUND, "there is no such page\n"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        Ok(response)
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
