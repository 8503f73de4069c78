//! Against a small registry of the test's own, for what a real one cannot be made to do: break off, send
//! us elsewhere, lie. A real one is in `tests/it/registry.rs`.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use super::*;

/// What it answers: from the request's lines to the whole answer.
type Answers = dyn Fn(&str) -> Vec<u8> + Send + Sync;

/// Serves until its listener is gone with the test's process; what it was asked is kept.
fn serve(answers: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Asked::default();
    let (kept, answers): (Asked, Arc<Answers>) = (Arc::clone(&asked), Arc::new(answers));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream, &kept, &*answers);
        }
    });
    (address, asked)
}

type Asked = Arc<Mutex<Vec<String>>>;

fn answer(mut stream: TcpStream, kept: &Asked, answers: &Answers) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let head: Vec<String> = lines.map_while(Result::ok).take_while(|l| !l.is_empty()).collect();
    let head = head.join("\n");
    kept.lock().unwrap().push(head.clone());
    // A client that has enough may be gone.
    let _ = stream.write_all(&answers(&head));
}

fn ok(body: &[u8]) -> Vec<u8> {
    whole("200 OK", "", body)
}

fn whole(status: &str, header: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{header}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// One layer with one file.
fn layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    header.set_uid(u64::from(rustix::process::getuid().as_raw()));
    header.set_gid(u64::from(rustix::process::getgid().as_raw()));
    header.set_cksum();
    tar.append_data(&mut header, "hello", &b"world"[..]).unwrap();
    tar.into_inner().unwrap()
}

fn manifest(layer: &[u8]) -> Vec<u8> {
    let (digest, size) = (digest(layer), layer.len());
    format!(r#"{{"schemaVersion":2,"layers":[{{"digest":"{digest}","size":{size}}}]}}"#).into()
}

/// Pulls `address/team/base:1`; what the one file in it says.
fn pull_from(address: &str, auth: Option<PathBuf>) -> Result<String, PullError> {
    let folder = tempfile::tempdir().unwrap();
    let reference: Reference = format!("{address}/team/base:1").parse().unwrap();
    let config = RegistryConfig { auth, certificates: PathBuf::new() };
    let root = folder.path().join("root");
    let places = (root.as_path(), folder.path());
    pull((&reference, &config), places, &Cancel::default(), &mut |_| {})?;
    Ok(std::fs::read_to_string(root.join("hello")).unwrap())
}

#[test]
fn a_token_is_fetched_with_our_name_and_shown_to_nobody_else() {
    let layer = layer();
    let (kept, blob) = (digest(&layer), layer.clone());
    let (elsewhere, asked_elsewhere) = serve(move |_| ok(&blob));
    let text = manifest(&layer);
    let (address, asked) = serve(move |head: &str| {
        let first = head.lines().next().unwrap_or_default();
        let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
        if first.contains("/token") {
            let is_us = head.contains("authorization: Basic YTpi");
            return if is_us { ok(br#"{"token":"T"}"#) } else { whole("401 No", "", b"") };
        }
        if !head.contains("authorization: Bearer T") {
            let realm = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
            return whole("401 Who", &format!("WWW-Authenticate: {realm}\r\n"), b"");
        }
        if first.contains("/manifests/1") {
            return ok(&text);
        }
        assert!(first.contains(&kept), "{first}");
        whole("307 There", &format!("Location: http://{elsewhere}/blob\r\n"), b"")
    });
    let folder = tempfile::tempdir().unwrap();
    let auth = folder.path().join("config.json");
    let credentials = format!(r#"{{"auths":{{"{address}":{{"auth":"YTpi"}}}}}}"#);
    std::fs::write(&auth, credentials).unwrap();
    assert_eq!(pull_from(&address, Some(auth)).unwrap(), "world");
    let token = asked.lock().unwrap().iter().find(|head| head.contains("/token")).cloned();
    assert!(token.unwrap().contains("service=s&scope=repository:team/base:pull"));
    let there = asked_elsewhere.lock().unwrap().join("\n");
    assert!(there.contains("/blob") && !there.contains("authorization"), "{there}");

    let error = pull_from(&address, None).unwrap_err();
    assert!(error.to_string().contains("gives no token to strangers"), "{error}");
}

#[test]
fn a_download_that_breaks_off_is_taken_up_where_it_was() {
    let layer = layer();
    let text = manifest(&layer);
    let (address, asked) = serve(move |head: &str| {
        if head.contains("/manifests/") {
            return ok(&text);
        }
        let from =
            head.lines().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-'));
        let all = ok(&layer);
        match from {
            // Half of what it promised.
            None => all[..all.len() / 2].to_vec(),
            Some(from) => {
                let rest = &layer[from.parse::<usize>().unwrap()..];
                whole("206 Partial Content", "", rest)
            }
        }
    });
    assert_eq!(pull_from(&address, None).unwrap(), "world");
    assert!(asked.lock().unwrap().iter().any(|head| head.contains("range: bytes=")));
}

#[test]
fn bytes_that_are_not_what_their_digest_says_are_refused() {
    let layer = layer();
    let text = manifest(&layer);
    let mut other = layer;
    other[600] ^= 1;
    let (address, _) =
        serve(move |head: &str| if head.contains("/manifests/") { ok(&text) } else { ok(&other) });
    let error = pull_from(&address, None).unwrap_err();
    assert!(matches!(error, PullError::Damaged { .. }), "{error}");
}

#[test]
fn a_pull_stops_at_once_when_it_is_told_to() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // It takes the connection and never answers.
    let address = listener.local_addr().unwrap();
    let reference: Reference = format!("{address}/team/base:1").parse().unwrap();
    let (cancel, told) = (Cancel::default(), Cancel::default());
    let listening = std::thread::spawn({
        let cancel = cancel.clone();
        move || {
            let held = listener.accept().unwrap();
            cancel.cancel(Problem::new(Code::BuildInterrupted, "enough"));
            held
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let config = RegistryConfig::default();
    let error = pull((&reference, &config), (&root, folder.path()), &cancel, &mut |_| {});
    assert!(matches!(error, Err(PullError::Cancelled)), "{error:?}");
    assert_eq!(cancel.why().unwrap().what, "enough");
    assert!(!told.is_cancelled());
    listening.join().unwrap();
}

#[test]
fn what_is_not_there_is_told_by_the_name_of_the_host() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let reference: Reference = format!("127.0.0.1:{port}/team/base:1").parse().unwrap();
    let error = pull_from(&format!("127.0.0.1:{port}"), None).unwrap_err();
    let text = error.problem(&reference).to_string().replace(&port.to_string(), "PORT");
    insta::assert_snapshot!(text, @r#"
    error[P210]: the base image `127.0.0.1:PORT/team/base:1` could not be pulled
      why:   `127.0.0.1:PORT` cannot be reached: Connection refused (os error 111)
      still: what serves goes on serving
      next:  push again when the registry can be reached from this machine
             or fetch it elsewhere: skopeo copy docker://127.0.0.1:PORT/team/base:1 oci-archive:base.tar
             and name it here: base = "/path/to/base.tar" (an archive, a tar or a folder)
             wharf explain P210
    "#);
}
