//! A request's head in HTTP/2's terms.

use http::header::{CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// The head as it goes out: the host is the authority, what only HTTP/1 says is gone. None when the
/// host or the target cannot be said in HTTP/2.
pub(super) fn request(method: &Method, target: &Uri, fields: HeaderMap) -> Option<Request<()>> {
    let host = fields.get(HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    let path = target.path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme("http").authority(host).path_and_query(path).build().ok()?;
    let mut request = Request::new(());
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = plain(fields);
    request.headers_mut().remove(HOST);
    Some(request)
}

/// Fields without those that belong to one HTTP/1 connection.
pub(super) fn plain(mut fields: HeaderMap) -> HeaderMap {
    for name in [CONNECTION, UPGRADE, TRANSFER_ENCODING, KEEP_ALIVE, PROXY_CONNECTION, SETTINGS] {
        fields.remove(name);
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_becomes_the_authority_and_hop_fields_go() {
        let mut fields = HeaderMap::new();
        for (name, value) in [
            ("host", "shop.x:8080"),
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("x-own", "1"),
        ] {
            fields.insert(name, HeaderValue::from_static(value));
        }
        let target = "/pkg.Service/Do?x".parse().unwrap();
        let head = request(&Method::POST, &target, fields.clone()).unwrap();
        assert_eq!(head.uri(), "http://shop.x:8080/pkg.Service/Do?x");
        let left: Vec<_> = head.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["te", "x-own"]);
        let all = request(&Method::OPTIONS, &Uri::from_static("*"), fields).unwrap();
        assert_eq!(all.uri().path(), "*");
        assert!(request(&Method::GET, &target, HeaderMap::new()).is_none(), "no host");
    }
}
