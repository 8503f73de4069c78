//! An HTTP/2 request as the rest of the edge knows requests: in HTTP/1.1's terms. What the two would
//! say differently is refused.

use http::header::{CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Request, Uri, Version};
use http_body::Body;

use crate::check::Broken;

/// Rewrites the head in place, or names the rule it breaks.
pub(crate) fn downgrade<B: Body>(request: &mut Request<B>) -> Result<(), Broken> {
    let authority = request.uri().authority().map(|own| own.as_str().to_owned());
    if let Some(authority) = authority {
        let given = request.headers().get_all(HOST).iter();
        let is_same =
            |host: &HeaderValue| host.as_bytes().eq_ignore_ascii_case(authority.as_bytes());
        if !given.into_iter().all(is_same) {
            return Err(Broken("Host and :authority differ"));
        }
        let host = HeaderValue::try_from(authority).map_err(|_| Broken(":authority is no host"))?;
        request.headers_mut().insert(HOST, host);
    }
    let has_body = !request.body().is_end_stream();
    let headers = request.headers_mut();
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err(Broken("Transfer-Encoding in HTTP/2"));
    }
    if headers.get_all(CONTENT_LENGTH).iter().count() > 1 {
        return Err(Broken("more than one Content-Length"));
    }
    join_cookies(headers);
    if has_body && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    *request.version_mut() = Version::HTTP_11;
    if let Some(path) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = Uri::from(path);
    }
    Ok(())
}

/// HTTP/2 may send cookies one by one; HTTP/1.1 has one field for all (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().count() < 2 {
        return;
    }
    let crumbs: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]));
    headers.insert(COOKIE, joined.expect("field values joined by `; ` are one"));
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Piece(bool);

    impl Body for Piece {
        type Data = bytes::Bytes;
        type Error = std::convert::Infallible;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
            std::task::Poll::Ready(None)
        }
        fn is_end_stream(&self) -> bool {
            !self.0
        }
    }

    fn request(has_body: bool, fields: &[(&str, &str)]) -> Result<Request<Piece>, &'static str> {
        let mut request = Request::builder().version(Version::HTTP_2).uri("https://a.x:8443/p?q");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Piece(has_body)).unwrap();
        downgrade(&mut request).map_err(|rule| rule.0)?;
        Ok(request)
    }

    #[test]
    fn the_authority_becomes_the_host_and_cookies_become_one() {
        let request = request(true, &[("cookie", "a=1"), ("cookie", "b=2")]).unwrap();
        assert_eq!(request.uri(), "/p?q");
        assert_eq!(request.headers()[HOST], "a.x:8443");
        assert_eq!(request.headers()[COOKIE], "a=1; b=2");
        assert_eq!(request.headers()[TRANSFER_ENCODING], "chunked");
    }

    #[test]
    fn a_body_is_framed_once() {
        let known = request(true, &[("content-length", "3")]).unwrap();
        assert!(!known.headers().contains_key(TRANSFER_ENCODING));
        let none = request(false, &[]).unwrap();
        assert!(!none.headers().contains_key(TRANSFER_ENCODING));
    }

    #[test]
    fn contradictions_are_refused() {
        for fields in [
            &[("host", "b.x")][..],
            &[("transfer-encoding", "chunked")],
            &[("content-length", "3"), ("content-length", "3")],
        ] {
            assert!(request(true, fields).is_err(), "{fields:?}");
        }
    }
}
