//! Asking one registry for the parts of one image: addresses, who we are, and where it sends us.

use ::http::header::{LOCATION, WWW_AUTHENTICATE};
use ::http::{Response, Uri};
use hyper::body::Incoming;

use super::auth::{self, Challenge};
use super::http::{Asked, Http, authority, text};
use super::reference::Reference;
use super::{PullError, RegistryConfig};

/// A registry that sends us on more often than this sends us in circles.
const MOST_HOPS: usize = 5;

/// One registry, one repository.
#[derive(Debug)]
pub(super) struct Session {
    http: Http,
    reference: Reference,
    /// `Basic …`, when we have a name here.
    credentials: Option<String>,
    /// What it let us in with.
    authorization: Option<String>,
}

impl Session {
    pub(super) fn new(reference: &Reference, config: &RegistryConfig) -> Result<Self, PullError> {
        Ok(Self {
            http: Http::new(&config.certificates),
            credentials: auth::credentials(config.auth.as_deref(), reference)?,
            reference: reference.clone(),
            authorization: None,
        })
    }

    pub(super) fn reference(&self) -> &Reference {
        &self.reference
    }

    pub(super) fn host(&self) -> String {
        self.reference.host().to_owned()
    }

    /// GET below the repository: `manifests/12`, `blobs/sha256:…`. What comes is a success.
    pub(super) async fn get(
        &mut self,
        path: &str,
        accept: Option<&str>,
        from: u64,
    ) -> Result<Response<Incoming>, PullError> {
        let (base, repository) = (self.reference.base(), self.reference.repository());
        let address = format!("{base}/v2/{repository}/{path}");
        let mut uri: Uri = address.parse().map_err(|_| self.no_image("an address that is none"))?;
        let home = authority(&uri);
        let mut has_asked = false;
        for _ in 0..MOST_HOPS {
            // Who we are is the registry's business, not that of whoever keeps its blobs.
            let is_home = authority(&uri) == home;
            let authorization = self.authorization.clone().filter(|_| is_home);
            let asked = Asked { accept, authorization: authorization.as_deref(), from };
            let answer = self.http.get(&uri, &asked).await?;
            let status = answer.status().as_u16();
            match status {
                200 | 206 => return Ok(answer),
                401 if is_home && !has_asked => {
                    has_asked = true;
                    self.log_in(&answer).await?;
                }
                301 | 302 | 303 | 307 | 308 => uri = self.next_hop(&uri, &answer)?,
                _ => return Err(self.refusal(status, path)),
            }
        }
        Err(self.no_image("it sends us from one address to the next"))
    }

    fn next_hop(&self, from: &Uri, answer: &Response<Incoming>) -> Result<Uri, PullError> {
        let place = answer.headers().get(LOCATION).and_then(|place| place.to_str().ok());
        let place = place.ok_or_else(|| self.no_image("it sends us nowhere"))?;
        let whole = if place.starts_with('/') {
            let scheme = from.scheme_str().unwrap_or("https");
            format!("{scheme}://{}{place}", authority(from))
        } else {
            place.to_owned()
        };
        let next: Uri = whole.parse().map_err(|_| self.no_image("it sends us nowhere"))?;
        if from.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
            return Err(self.no_image("it sends us to an address without TLS"));
        }
        Ok(next)
    }

    /// Does what the challenge asks for.
    async fn log_in(&mut self, answer: &Response<Incoming>) -> Result<(), PullError> {
        let denied = |why| PullError::Denied { host: self.host(), why };
        let challenge = answer.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenge = challenge.filter_map(|text| Challenge::parse(text.to_str().ok()?)).next();
        let challenge = challenge
            .ok_or_else(|| denied("it wants to know who we are in a way we do not know"))?;
        let Some(address) = challenge.token_address(&self.reference) else {
            let credentials = self.credentials.clone();
            self.authorization =
                Some(credentials.ok_or_else(|| denied("it asks for a name and a password"))?);
            return Ok(());
        };
        let uri: Uri = address.parse().map_err(|_| self.no_image("a token's address is none"))?;
        let is_clear =
            uri.scheme_str() != Some("https") && self.reference.base().starts_with("https");
        if is_clear && self.credentials.is_some() {
            return Err(self.no_image("it wants our password at an address without TLS"));
        }
        let asked = Asked { authorization: self.credentials.as_deref(), ..Asked::default() };
        let answer = self.http.get(&uri, &asked).await?;
        if !answer.status().is_success() {
            return Err(match answer.status().as_u16() {
                401 | 403 if self.credentials.is_some() => {
                    denied("the name and password it was given are wrong")
                }
                401 | 403 => denied("it gives no token to strangers"),
                status => self.refusal(status, "a token"),
            });
        }
        let host = authority(&uri);
        let body = text(answer.into_body(), &host).await?;
        let body: serde_json::Value =
            serde_json::from_slice(&body).map_err(|_| self.no_image("its token is no JSON"))?;
        let token = ["token", "access_token"].iter().find_map(|name| body[name].as_str());
        let token = token.ok_or_else(|| self.no_image("it gave no token"))?;
        self.authorization = Some(format!("Bearer {token}"));
        Ok(())
    }

    fn refusal(&self, status: u16, path: &str) -> PullError {
        let (host, what) = (self.host(), format!("{} of {}", path, self.reference.repository()));
        match status {
            // Docker's registry answers 401 for what a stranger may not see, there or not.
            401 | 403 if self.credentials.is_some() => PullError::Denied {
                host,
                why: "the name and password it was given may not read that image, or are wrong",
            },
            401 | 403 => PullError::Denied { host, why: "no such image, or not one for strangers" },
            404 => PullError::Unknown { host, what: self.reference.to_string() },
            429 => PullError::TooMany { host },
            status => PullError::Refused { host, status, what },
        }
    }

    pub(super) fn no_image(&self, why: &str) -> PullError {
        PullError::NoImage { host: self.host(), why: why.to_owned() }
    }
}
