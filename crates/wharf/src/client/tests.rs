//! The client against a tiny real server: what it sends, how it reads, what it says when it cannot.

use std::convert::Infallible;

use hyper::service::service_fn;
use tokio::net::UnixListener;

use super::*;

type Answer = (u16, Vec<(&'static str, String)>, String);

/// Answers every request by the function, on a socket in the folder.
fn serve(folder: &Path, tasks: &Tasks, answer: fn(&Request<Incoming>) -> Answer) -> Client {
    let path = folder.join("wharf.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let of_connections = tasks.clone();
    tasks.spawn("test server", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(move |request: Request<Incoming>| {
                let (status, headers, body) = answer(&request);
                let mut response = Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                let response = response.body(Full::new(Bytes::from(body))).unwrap();
                async move { Ok::<_, Infallible>(response) }
            });
            of_connections.spawn("test connection", async move {
                let io = TokioIo::new(stream);
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            });
        }
    });
    Client::new(Target::Unix(path), Some("secret".into()), None)
}

#[tokio::test]
async fn a_list_is_read_page_by_page_with_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let client = serve(folder.path(), &Tasks::default(), |request| {
        assert_eq!(request.headers()[AUTHORIZATION], "Bearer secret");
        assert_eq!(request.headers()[ACCEPT], api::ACCEPT);
        match request.headers().get(RANGE) {
            None => (206, vec![(api::NEXT_RANGE_HEADER, "name ]b..".into())], "[1,2]".into()),
            Some(_) => (200, vec![], "[3]".into()),
        }
    });
    assert_eq!(client.list("/apps").await.unwrap(), [1, 2, 3]);
}

#[tokio::test]
async fn the_servers_problem_is_passed_through_with_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let client = serve(folder.path(), &Tasks::default(), |_| {
        let problem = Problem::new(Code::CrashedOnBoot, "release v2 was not made current")
            .log(vec!["Error: no database".into()]);
        (409, vec![], serde_json::to_string(&ErrorBody::from(problem)).unwrap())
    });
    let problem = client.get::<serde_json::Value>("/apps").await.unwrap_err();
    assert_eq!((problem.code, problem.log.len()), (Code::CrashedOnBoot, 1));
}

#[tokio::test]
async fn a_stranger_is_told_apart_from_a_refusal() {
    for (status, code) in [(401, Code::TokenWrong), (502, Code::DaemonUnreachable)] {
        let folder = tempfile::tempdir().unwrap();
        let answer = if status == 401 {
            |_: &Request<Incoming>| (401, vec![], String::new())
        } else {
            |_: &Request<Incoming>| (502, vec![], "<html>nginx</html>".into())
        };
        let client = serve(folder.path(), &Tasks::default(), answer);
        let problem = client.get::<serde_json::Value>("/apps").await.unwrap_err();
        assert_eq!(problem.code, code);
    }
}

#[tokio::test]
async fn lines_come_whole_and_the_last_needs_no_newline() {
    let folder = tempfile::tempdir().unwrap();
    let client =
        serve(folder.path(), &Tasks::default(), |_| (200, vec![], "a\n\nb c\nlast".into()));
    let mut stream = client.stream("/x").await.unwrap();
    let mut lines = Vec::new();
    while let Some(line) = stream.next().await.unwrap() {
        lines.push(line);
    }
    assert_eq!(lines, ["a", "", "b c", "last"]);
}

#[tokio::test]
async fn nobody_there_says_what_was_tried() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::Unix(folder.path().join("no.sock"));
    let client = Client::new(target, None, None);
    let problem = client.get::<serde_json::Value>("/apps").await.unwrap_err();
    let text = problem.to_string().replace(folder.path().to_str().unwrap(), "<folder>");
    insta::assert_snapshot!(text, @r"
    error[P008]: the daemon at unix:<folder>/no.sock did not answer
      why:   No such file or directory (os error 2)
      next:  systemctl status wharf, or start it: wharf daemon
             is it elsewhere? set WHARF_API=http://host:7070
             wharf explain P008
    ");
}

#[test]
fn addresses_are_read_and_shown() {
    for (text, shown) in [
        ("unix:/run/x", "unix:/run/x"),
        ("/run/x", "unix:/run/x"),
        ("http://box", "http://box:7070"),
        ("https://box", "https://box:443"),
        ("http://[::1]:1", "http://[::1]:1"),
    ] {
        assert_eq!(Target::parse(text).unwrap().to_string(), shown);
    }
    for bad in ["", "box", "ftp://box", "box:7070"] {
        assert_eq!(Target::parse(bad).unwrap_err().code, Code::BadInput, "{bad}");
    }
}
