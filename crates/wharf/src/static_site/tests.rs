use super::*;
use http::header::{IF_MODIFIED_SINCE, LAST_MODIFIED, RANGE};
use http_body_util::BodyExt;

async fn get(
    site: &Site,
    path: &str,
    headers: &[(HeaderName, &str)],
) -> (u16, String, Response<()>) {
    let mut request = Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let response = site.answer(request.body(()).unwrap()).await;
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    (parts.status.as_u16(), text, Response::from_parts(parts, ()))
}

fn site(files: &[(&str, &str)], fallback: Option<&str>) -> (tempfile::TempDir, Site) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let options = StaticOptions {
        root: folder.path().to_owned(),
        port: 0,
        fallback: fallback.map(PathBuf::from),
    };
    let site = Site::new(&options).unwrap();
    (folder, site)
}

#[tokio::test]
async fn files_folders_ranges_and_conditions_are_served() {
    let files = [("index.html", "home"), ("docs/index.html", "docs"), ("a b.txt", "0123456789")];
    let (_folder, site) = site(&files, None);
    assert_eq!(get(&site, "/", &[]).await.1, "home");
    assert_eq!(get(&site, "/docs/", &[]).await.1, "docs");
    let (status, text, _) = get(&site, "/a%20b.txt", &[(RANGE, "bytes=2-4")]).await;
    assert_eq!((status, text.as_str()), (206, "234"));
    let first = get(&site, "/", &[]).await.2;
    let since = first.headers()[LAST_MODIFIED].to_str().unwrap();
    assert_eq!(get(&site, "/", &[(IF_MODIFIED_SINCE, since)]).await.0, 304);
}

#[tokio::test]
async fn what_is_not_there_gets_the_sites_own_page_or_the_fallback() {
    let files =
        [("index.html", "home"), ("404.html", "lost"), (".env", "secret"), (".git/config", "s")];
    let (_folder, site_one) = site(&files, None);
    for path in ["/none", "/.env", "/.git/config", "/%2e%2e/etc/passwd"] {
        let (status, text, _) = get(&site_one, path, &[(RANGE, "bytes=0-1")]).await;
        assert_eq!((status, text.as_str()), (404, "lost"), "{path}");
    }
    let (_folder, app) = site(&files, Some("index.html"));
    assert_eq!(get(&app, "/deep/link", &[]).await.0, 200);
    assert_eq!(get(&app, "/deep/link", &[]).await.1, "home");
    let (_folder, bare) = site(&[("x", "")], None);
    assert_eq!(get(&bare, "/", &[]).await.0, 404);
    let post = Request::builder().method(Method::POST).uri("/x").body(()).unwrap();
    let refused = bare.answer(post).await;
    assert_eq!(refused.status().as_u16(), 405);
    assert_eq!(refused.headers()[ALLOW], "GET, HEAD");
}

#[tokio::test]
async fn a_file_is_sent_without_waiting_for_its_head_to_be_acknowledged() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    at_once(&listener).unwrap();
    let address = listener.local_addr().unwrap();
    let (visitor, accepted) =
        tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
    assert!(accepted.unwrap().0.nodelay().unwrap());
    drop(visitor);
}
