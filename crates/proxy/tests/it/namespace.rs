//! A replica in a network namespace of its own, reached by sockets made inside it.

use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use model::route::EndpointAddress;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socket_with,
};

use crate::app::App;
use crate::edge::{Edge, live, tcp};

/// True when the test cannot run here; says so, and fails where root was promised.
#[expect(clippy::print_stderr, reason = "a skip is said where people look")]
pub(crate) fn is_skipped_without_root() -> bool {
    if rustix::process::getuid().is_root() {
        return false;
    }
    let required = std::env::var("REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|need| need == "root"), "root is required");
    eprintln!("skipped: needs root");
    true
}

/// Starts an app and a dial server in a new namespace. Threads die with the test's process, and
/// the namespace with its last thread and socket.
fn start(dial_socket: PathBuf) -> (SocketAddr, Arc<AtomicU32>) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let asked = Arc::new(AtomicU32::new(0));
    let counter = asked.clone();
    std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        #[expect(clippy::disallowed_methods, reason = "brings the loopback up in here")]
        let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.unwrap().success());
        let listener = UnixListener::bind(&dial_socket).unwrap();
        std::fs::set_permissions(&dial_socket, PermissionsExt::from_mode(0o666)).unwrap();
        std::thread::spawn(move || serve_dial(&listener, &counter));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let app = App::start("inside").await;
            sender.send(app.address).unwrap();
            std::future::pending::<()>().await;
        });
    });
    (receiver.recv().unwrap(), asked)
}

fn serve_dial(listener: &UnixListener, asked: &AtomicU32) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut question = [0; 2];
        stream.read_exact(&mut question).unwrap();
        assert!((1..=64).contains(&question[0]) && question[1] == 4);
        asked.fetch_add(1, SeqCst);
        let make = |_| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap()
        };
        let sockets: Vec<OwnedFd> = (0..question[0]).map(make).collect();
        let borrowed: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
        sendmsg(&stream, &[IoSlice::new(b"s")], &mut control, SendFlags::NOSIGNAL).unwrap();
    }
}

#[tokio::test]
async fn a_replica_in_its_own_namespace_is_reached_through_its_shim() {
    if is_skipped_without_root() {
        return;
    }
    let edge = Edge::tuned(|config| config.workers = 1).await;
    let dial_socket = edge.config.log_dir.parent().unwrap().join("dial");
    let (target, asked) = start(dial_socket.clone());
    assert!(std::net::TcpStream::connect(target).is_err(), "not reachable from out here");
    let mut endpoint = tcp(1, target);
    endpoint.address = EndpointAddress::Namespace { dial_socket: dial_socket.clone(), target };
    edge.apply(live(1, vec![endpoint.clone()])).await;
    // Each closes its connection at the app, so each needs a socket of its own.
    for _ in 0..4 {
        let reply = edge.get("shop.localhost", "/close").await;
        assert_eq!(reply.code(), Some("H13"));
    }
    assert_eq!(edge.get("shop.localhost", "/in").await.body, "inside /in ");
    assert!(asked.load(SeqCst) <= 2, "sockets come in batches");
    // A shim that is gone is an endpoint that is down: another one takes over.
    std::fs::remove_file(&dial_socket).unwrap();
    let other = App::start("other").await;
    let mut moved = endpoint;
    moved.replica = crate::edge::replica_id(9);
    edge.apply(live(2, vec![moved, tcp(2, other.address)])).await;
    for _ in 0..4 {
        assert_eq!(edge.get("shop.localhost", "/x").await.body, "other /x ");
    }
}
