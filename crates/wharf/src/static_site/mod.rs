//! The role `wharf static`: serves a folder of files over HTTP, inside a container.
//!
//! Conditional requests, ranges, index files and ready-made `.gz` and `.br` neighbours come from
//! tower-http. A path that is no file is answered with the fallback (single-page apps) or with the
//! site's own 404.html. Nothing outside the folder and no hidden file is ever served.

use std::convert::Infallible;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use axum::body::Body;
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tower_http::services::{ServeDir, ServeFile};

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
    complain(&format!("serving `{}` on port {}", options.root.display(), options.port));
    let site = Site::new(options);
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

/// The folder as a service.
#[derive(Debug, Clone)]
pub struct Site {
    files: ServeDir,
    fallback: Option<PathBuf>,
    not_found: PathBuf,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Site {
    /// A site of these options; release and replica are said in headers.
    pub fn new(options: &StaticOptions) -> Self {
        let named = |name: &'static str, variable: &str| {
            let value = std::env::var(variable).ok()?;
            Some((HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?))
        };
        Self {
            files: ServeDir::new(&options.root).precompressed_gzip().precompressed_br(),
            fallback: options.fallback.as_ref().map(|file| options.root.join(file)),
            not_found: options.root.join("404.html"),
            headers: [
                named("x-wharf-release", "WHARF_RELEASE"),
                named("x-wharf-replica", "WHARF_REPLICA"),
            ]
            .into_iter()
            .flatten()
            .collect(),
        }
    }

    /// One request.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: Send + 'static,
    {
        let (parts, _) = request.into_parts();
        let request = || {
            let mut request = Request::new(Body::empty());
            (*request.method_mut()).clone_from(&parts.method);
            (*request.uri_mut()).clone_from(&parts.uri);
            request.headers_mut().clone_from(&parts.headers);
            request
        };
        if parts.method != Method::GET && parts.method != Method::HEAD {
            return plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET and HEAD are understood here\n",
            );
        }
        let mut response = if is_hidden(parts.uri.path()) {
            plain(StatusCode::NOT_FOUND, "")
        } else {
            whole(self.files.clone().try_call(request()).await)
        };
        if response.status() == StatusCode::NOT_FOUND {
            response = match &self.fallback {
                Some(file) => whole(ServeFile::new(file).try_call(request()).await),
                None => self.not_found(request()).await,
            };
        }
        // Files keep their names from release to release: ask again, answer 304.
        response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
        for (name, value) in &self.headers {
            response.headers_mut().insert(name, value.clone());
        }
        response
    }

    /// The site's own page, always whole and always 404.
    async fn not_found(&self, mut request: Request<Body>) -> Response<Body> {
        request.headers_mut().clear();
        let mut response = whole(ServeFile::new(&self.not_found).try_call(request).await);
        if response.status() != StatusCode::OK {
            response = plain(StatusCode::NOT_FOUND, "there is no such page\n");
        }
        *response.status_mut() = StatusCode::NOT_FOUND;
        response
    }
}

fn whole<B>(answer: std::io::Result<Response<B>>) -> Response<Body>
where
    B: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    match answer {
        Ok(response) => response.map(Body::new),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the file could not be read\n"),
    }
}

/// `.git`, `.env` and their like; `.well-known` is meant to be seen.
fn is_hidden(path: &str) -> bool {
    let hides = |part: &str| {
        let is_dot =
            part.starts_with('.') || part.get(..3).is_some_and(|p| p.eq_ignore_ascii_case("%2e"));
        is_dot && part != ".well-known"
    };
    path.split(['/', '\\']).any(hides)
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
