//! The control API of an app that runs: what it tells of replicas, builds and releases, and that what it
//! changes is seen at the edge.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::schema::{assert_list, assert_schema};
use crate::support::host::{Host, wait_for};
use crate::support::repo::Repo;
use crate::support::require::require;

#[test]
fn the_api_of_an_app_that_runs() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    repo.write("Procfile", "web: python3 server.py\nworker: PORTS=0 python3 server.py\n");
    repo.commit("with a worker");
    host.push_well(&repo);
    what_a_push_made_is_seen_in_herokus_shapes(&host);
    counts_and_restarts_reach_the_replicas(&host);
    who_hangs_up_has_changed_it_all_the_same(&host);
    logs_are_streamed_from_the_address_a_session_gives(&host);
    maintenance_is_served_by_the_edge(&host);
    domains_are_routed_at_once(&host);
    routes_lead_where_they_say(&host, &repo);
    a_pause_keeps_requests_until_the_app_is_resumed(&host);
    weights_say_who_gets_how_much(&host);
    a_rename_moves_the_address(&host);
    crate::edge::the_edge_does_what_it_is_told(&host);
}

/// The dynos once as many are up as are wanted.
fn up(host: &Host, app: &str, process: &str, count: usize) -> Vec<Value> {
    wait_for("the replicas to be up", Duration::from_secs(20), || {
        let dynos = host.read(&format!("/apps/{app}/dynos")).json();
        let mine: Vec<Value> =
            dynos.as_array()?.iter().filter(|dyno| dyno["type"] == process).cloned().collect();
        (mine.len() == count && mine.iter().all(|dyno| dyno["state"] == "up")).then_some(mine)
    })
}

fn what_a_push_made_is_seen_in_herokus_shapes(host: &Host) {
    let app = host.read("/apps/shop").json();
    assert_schema("app", &app);
    assert!(app["released_at"].is_string());
    let releases = host.read("/apps/shop/releases").json();
    assert_list("release", &releases);
    let release = &releases[0];
    assert_eq!((&release["status"], &release["current"]), (&json!("succeeded"), &json!(true)));
    assert_eq!(host.read("/apps/shop/releases/v1").json(), *release);
    let builds = host.read("/apps/shop/builds").json();
    assert_list("build", &builds);
    assert_eq!(builds[0]["release"]["id"], release["id"]);
    assert_eq!(builds[0]["slug"], release["slug"]);
    let one = host.read(&format!("/apps/shop/builds/{}", builds[0]["id"].as_str().unwrap()));
    assert_eq!(one.json(), builds[0]);
    let formation = host.read("/apps/shop/formation").json();
    assert_list("formation", &formation);
    let counts: Vec<_> =
        formation.as_array().unwrap().iter().map(|one| (&one["type"], &one["quantity"])).collect();
    assert_eq!(counts, [(&json!("web"), &json!(1)), (&json!("worker"), &json!(0))]);
    let dynos = json!(up(host, "shop", "web", 1));
    assert_list("dyno", &dynos);
    let dyno = &dynos[0];
    assert_eq!((&dyno["name"], &dyno["command"]), (&json!("web.1"), &json!("python3 server.py")));
    assert_eq!(dyno["release"], json!({"id": release["id"], "version": 1}));
    assert_eq!(host.read("/apps/shop/dynos/web.1").json(), *dyno);
    let replicas = host.read("/wharf/apps/shop/replicas").json();
    assert_eq!((&replicas[0]["id"], &replicas[0]["status"]), (&dyno["id"], &json!("up")));
    let detail = host.read("/wharf/apps/shop/releases/current").json();
    assert_eq!(detail["processes"]["web"], "python3 server.py");
    assert_eq!(detail["deploys"][0]["phase"], "live");
    let status = host.read("/wharf/status").json();
    assert_eq!(status["apps"][0]["name"], "shop", "{status}");
}

fn counts_and_restarts_reach_the_replicas(host: &Host) {
    let scaled = host.call("PATCH", "/apps/shop/formation/worker", r#"{"quantity":2}"#);
    assert_schema("formation", &scaled.json());
    assert_eq!((&scaled.json()["quantity"], scaled.header("wharf-release")), (&json!(2), "v2"));
    follow(host, scaled.header("wharf-deploy"));
    up(host, "shop", "worker", 2);
    let body = r#"{"updates":[{"type":"worker","quantity":0}]}"#;
    assert_list("formation", &host.call("PATCH", "/apps/shop/formation", body).json());
    up(host, "shop", "worker", 0);
    let unknown = host.call("PATCH", "/apps/shop/formation/clock", r#"{"quantity":1}"#);
    assert_eq!(unknown.status, 404, "{}", unknown.text);

    let before = up(host, "shop", "web", 1)[0]["id"].clone();
    let restarted = host.call("DELETE", "/apps/shop/dynos", "");
    assert_eq!((restarted.status, restarted.header("wharf-release")), (202, "v3"));
    follow(host, restarted.header("wharf-deploy"));
    let after = up(host, "shop", "web", 1)[0]["id"].clone();
    assert_ne!(before, after);
    let one = host.call("DELETE", "/apps/shop/dynos/web.1", "");
    assert_eq!(one.status, 202, "{}", one.text);
    wait_for("the one replica to be another", Duration::from_secs(20), || {
        (up(host, "shop", "web", 1)[0]["id"] != after).then_some(())
    });

    let set = host.call("PATCH", "/apps/shop/config-vars", r#"{"A":"1"}"#);
    assert_eq!(set.header("wharf-release"), "v4", "{}", set.text);
    follow(host, set.header("wharf-deploy"));
    let back = host.call("POST", "/apps/shop/releases", r#"{"release":"1"}"#);
    assert_schema("release", &back.json());
    assert_eq!((back.status, back.header("wharf-release")), (201, "v5"), "{}", back.text);
    follow(host, back.header("wharf-deploy"));
    assert_eq!(host.read("/apps/shop/releases/v5").json()["current"], true);
    let releases = host.read("/apps/shop/releases").json();
    assert_list("release", &releases);
    assert_eq!(releases[1]["description"], "Scale worker to 2");
}

fn who_hangs_up_has_changed_it_all_the_same(host: &Host) {
    let body = r#"{"hostname":"gone.example.com"}"#;
    assert_eq!(host.call("POST", "/apps/shop/domains", body).status, 201);
    let delete = b"DELETE /apps/shop/domains/gone.example.com HTTP/1.1\r\nhost: x\r\n\r\n";
    let newest = || host.read("/apps/shop/releases").json().as_array().unwrap().last().cloned();
    // A request whose end was there before its beginning was looked at is none: it is made again.
    wait_for("the change of somebody who hung up", Duration::from_secs(20), || {
        let mut socket = UnixStream::connect(host.run.join("wharf.sock")).unwrap();
        socket.write_all(delete).unwrap();
        drop(socket);
        (newest()?["version"] == 7).then_some(())
    });
    // Asking for releases wakes nobody up who would not be awake by himself.
    wait_for("the deploy nobody waits for", Duration::from_secs(20), || {
        (newest()?["current"] == true).then_some(())
    });
}

/// A deploy's progress ends with its verdict, and so does this.
fn follow(host: &Host, deploy: &str) {
    let progress = host.read(&format!("/wharf/apps/shop/deploys/{deploy}/progress"));
    assert_eq!(progress.header("content-type"), "application/x-ndjson");
    assert!(progress.text.ends_with("\"live\"\n"), "{}", progress.text);
}

fn logs_are_streamed_from_the_address_a_session_gives(host: &Host) {
    let session = host.call("POST", "/apps/shop/log-sessions", r#"{"lines":1000}"#);
    assert_eq!(session.status, 201);
    assert_schema("log-session", &session.json());
    let url = session.json()["logplex_url"].as_str().unwrap().to_owned();
    assert!(url.starts_with(&host.api()), "{url}");
    let path = &url[url.find("/wharf/").unwrap()..];
    // Nobody else can guess it, so it needs no token.
    let lines = host.read_tcp(path, &[]);
    assert!(lines.text.contains(" app[web.1]: booting one\n"), "{}", lines.text);
    assert!(lines.text.contains(" wharf[deploy]: "), "{}", lines.text);
    assert_eq!(host.read_tcp(path, &[]).status, 404, "it works once");
}

// An answer to a change of what visitors meet comes when the very next request meets it.

fn maintenance_is_served_by_the_edge(host: &Host) {
    for _ in 0..3 {
        let on = host.call("PATCH", "/apps/shop", r#"{"maintenance":true}"#);
        assert_eq!((on.status, on.header("wharf-current-release")), (200, "v7"));
        let (status, body) = host.get("shop.localhost", "/");
        assert!(status == 503 && body.contains("H80"), "{status} {body}");
        assert_eq!(host.call("PATCH", "/apps/shop", r#"{"maintenance":false}"#).status, 200);
        assert_eq!(host.get("shop.localhost", "/").0, 200);
    }
}

fn domains_are_routed_at_once(host: &Host) {
    assert_eq!(host.get("www.example.com", "/").0, 404);
    for number in 0..10 {
        let added = host.call("POST", "/apps/shop/domains", r#"{"hostname":"www.example.com"}"#);
        let version = format!("v{}", 8 + 2 * number);
        assert_eq!((added.status, added.header("wharf-release")), (201, version.as_str()));
        assert_eq!(host.get("www.example.com", "/").0, 200);
        // Ports and case are no part of a name.
        assert_eq!(host.get("WWW.Example.com:8080", "/").0, 200);
        let removed = host.call("DELETE", "/apps/shop/domains/www.example.com", "");
        assert_schema("domain", &removed.json());
        assert_eq!(host.get("www.example.com", "/").0, 404);
    }
}

fn a_pause_keeps_requests_until_the_app_is_resumed(host: &Host) {
    assert_eq!(host.json(&["pause", "shop"])["paused"], true);
    assert_eq!(host.read("/wharf/apps/shop/pause").json()["paused"], true);
    std::thread::scope(|scope| {
        let request = scope.spawn(|| host.get("shop.localhost", "/paused"));
        wait_for("the request to be held", Duration::from_secs(20), || {
            let status = host.read("/wharf/status").json();
            let mut apps = status["apps"].as_array()?.iter();
            let held = &apps.find(|app| app["name"] == "shop")?["held"];
            (*held == 1 || request.is_finished()).then_some(())
        });
        assert!(!request.is_finished(), "nobody was asked to answer it");
        assert_eq!(host.json(&["resume", "shop"])["paused"], false);
        assert_eq!(request.join().unwrap().0, 200);
    });
}

fn weights_say_who_gets_how_much(host: &Host) {
    let scale = |count: u32| {
        let body = format!(r#"{{"quantity":{count}}}"#);
        let scaled = host.call("PATCH", "/apps/shop/formation/web", &body);
        follow(host, scaled.header("wharf-deploy"));
        up(host, "shop", "web", usize::try_from(count).unwrap());
    };
    scale(2);
    let answered = || {
        let bodies = (0..40).map(|_| host.get("shop.localhost", "/").1);
        let second = bodies.filter(|body| body.contains("web.2")).count();
        (40 - second, second)
    };
    assert_eq!(host.wharf(&["ps:weight", "-a", "shop"]).trim(), "web.1=100 web.2=100");
    let changed = host.json(&["ps:weight", "web.2=0", "-a", "shop"]);
    assert_eq!(changed["weights"], json!({"web.1": 100, "web.2": 0}));
    assert_eq!(answered(), (40, 0));
    host.wharf(&["ps:weight", "web.2=default", "-a", "shop"]);
    assert_eq!(host.read("/wharf/apps/shop/weights").json()["weights"]["web.2"], 100);
    // The one nobody knows yet is asked first; who is asked then is a matter of latency.
    assert!(answered().1 > 0);
    let said = host.wharf_fails(&["ps:weight", "web.3=10", "-a", "shop"]);
    assert!(said.contains("P013") && said.contains("`web.1` to `web.2`"), "{said}");
    let said = host.wharf_fails(&["ps:weight", "web.1=1001", "-a", "shop"]);
    assert!(said.contains("from 0 (nothing new) to 1000"), "{said}");
    // It stays with the number, whatever is deployed.
    host.wharf(&["ps:weight", "web.1=0", "-a", "shop"]);
    let restarted = host.call("DELETE", "/apps/shop/dynos", "");
    follow(host, restarted.header("wharf-deploy"));
    assert_eq!(answered(), (0, 40));
    host.wharf(&["ps:weight", "web.1=default", "-a", "shop"]);
    scale(1);
}

fn routes_lead_where_they_say(host: &Host, repo: &Repo) {
    host.wharf(&["create", "blog"]);
    let socket = ["routes:add", "-a", "shop", "--path", "/sock", "--to", "unix:/run/x.sock"];
    assert!(host.wharf_fails(&socket).contains("P405"));
    // By command: at once, and by their names to be removed.
    host.wharf(&["routes:add", "-a", "shop", "--path", "/blog", "--strip", "--to", "blog"]);
    host.wharf(&["routes:add", "-a", "shop", "--path", "/old", "--redirect", "/new/*"]);
    assert_eq!(host.get("shop.localhost", "/blog/x").0, 502);
    assert_eq!(host.get("shop.localhost", "/blogs").0, 200);
    assert_eq!(host.get("shop.localhost", "/old/x").0, 302);
    // By the app file: with the release.
    repo.write(
        "wharf.toml",
        "[[routes]]\nhost = \"api.example.com\"\npath = \"/v1\"\n\n[[routes]]\npath = \"/old\"\nto = \"blog\"\n",
    );
    repo.commit("with routes");
    host.push_well(repo);
    assert_eq!(host.get("api.example.com", "/v1/x").0, 200);
    assert_eq!(host.get("api.example.com", "/v2").0, 404);
    assert_eq!(host.get("shop.localhost", "/old/x").0, 302, "a command wins over the file");
    let shown = host.wharf(&["routes", "shop"]);
    insta::assert_snapshot!(shown, @r"
    …/blog              to blog, prefix off
    …/old               redirect /new/* (302)
    api.example.com/v1  to the app             (app file)
    …/old               to blog                (app file)
    ");
    let routes = host.json(&["routes", "shop"]);
    assert_eq!(routes[0]["subject"], "…/blog");
    assert_eq!((&routes[0]["to"], &routes[0]["source"]), (&json!("blog"), &json!("settings")));
    // Two owners are refused by their names, by command and by push.
    let refused = host.wharf_fails(&[
        "routes:add",
        "-a",
        "blog",
        "--host",
        "api.example.com",
        "--path",
        "/v1/",
    ]);
    insta::assert_snapshot!(refused, @r"
    Adding a route to blog…
    error[P403]: `api.example.com/v1` belongs to `shop` already
      why:   `blog` and `shop` cannot both have the same requests
      still: nothing was changed, all routes lead where they led
      next:  wharf routes -a shop
             wharf domains -a shop
             wharf explain P403
    ");
    let other = host.app("rival");
    other.write("wharf.toml", "[[routes]]\nhost = \"shop.localhost\"\n");
    other.commit("mine");
    let (is_accepted, said) = host.push(&other);
    assert!(
        !is_accepted && said.contains("error[P403]: `shop.localhost/` belongs to `shop`"),
        "{said}"
    );
    let unknown = host.wharf_fails(&["routes:remove", "-a", "shop", "/v1"]);
    assert!(unknown.contains("P404"), "{unknown}");
    host.wharf(&["routes:remove", "-a", "shop", "/blog"]);
    host.wharf(&["routes:remove", "-a", "shop", "…/old"]);
    assert_eq!(host.get("shop.localhost", "/blog/x").0, 200);
    assert_eq!(host.get("shop.localhost", "/old/x").0, 502, "what the file says counts again");
    host.wharf(&["destroy", "rival", "--confirm", "rival"]);
}

fn a_rename_moves_the_address(host: &Host) {
    for (from, to) in [("shop", "store"), ("store", "shop"), ("shop", "store")] {
        let body = json!({ "name": to }).to_string();
        let renamed = host.call("PATCH", &format!("/apps/{from}"), &body);
        assert_schema("app", &renamed.json());
        assert_eq!(host.get(&format!("{to}.localhost"), "/").0, 200);
        assert_eq!(host.get(&format!("{from}.localhost"), "/").0, 404);
        assert_eq!(host.read(&format!("/apps/{from}")).status, 404);
    }
    up(host, "store", "web", 1);
}
