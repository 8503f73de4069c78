//! The control API as its clients see it, before anything is deployed: shapes, statuses, paging, who
//! is let in. What running replicas add to it is in `serving.rs`.

use serde_json::json;

use crate::schema::{assert_list, assert_schema};
use crate::support::host::Host;
use crate::support::require::require;

/// One Wharf for all of it: none of these deploys, and each has apps of its own.
#[test]
fn the_api_of_apps_that_were_never_pushed() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    an_app_lives_in_herokus_shape(&host);
    a_name_is_made_up_when_none_is_given_and_taken_only_once(&host);
    an_unknown_app_is_answered_with_the_nearest_name(&host);
    who_has_no_token_is_not_let_in(&host);
    config_vars_make_releases_and_say_which(&host);
    lists_come_in_pages(&host);
    a_domain_has_one_owner(&host);
    bad_requests_name_the_place_and_change_nothing(&host);
}

fn create(host: &Host, name: &str) {
    let reply = host.call("POST", "/apps", &json!({ "name": name }).to_string());
    assert_eq!(reply.status, 201, "{}", reply.text);
}

fn an_app_lives_in_herokus_shape(host: &Host) {
    let made = host.call("POST", "/apps", r#"{"name":"life","region":"eu"}"#);
    assert_eq!(made.status, 201);
    assert_schema("app", &made.json());
    // The address is the one the API really listens at, also where port 0 was asked for.
    assert_eq!(made.json()["git_url"], format!("{}/life.git", host.api()));
    let id = made.json()["id"].as_str().unwrap().to_owned();
    assert!(made.header("request-id").parse::<uuid::Uuid>().is_ok());

    let by_id = host.read(&format!("/apps/{id}"));
    assert_eq!(by_id.json(), made.json());
    assert_list("app", &host.read("/apps").json());

    let changed = host.call("PATCH", "/apps/life", r#"{"name":"love","maintenance":true}"#);
    assert_schema("app", &changed.json());
    assert_eq!(
        (&changed.json()["name"], &changed.json()["maintenance"]),
        (&json!("love"), &json!(true))
    );
    let refused = host.call("DELETE", "/apps/love?confirm=life", "");
    assert_eq!((refused.status, refused.code()), (400, json!("P009")));
    assert_eq!(host.call("DELETE", "/apps/love?confirm=love", "").status, 200);
    assert_eq!(host.read("/apps/love").status, 404);
}

fn a_name_is_made_up_when_none_is_given_and_taken_only_once(host: &Host) {
    let made = host.call("POST", "/apps", "");
    assert_eq!(made.status, 201, "{}", made.text);
    let name = made.json()["name"].as_str().unwrap().to_owned();
    let again = host.call("POST", "/apps", &json!({ "name": name }).to_string());
    assert_eq!((again.status, &again.json()["id"]), (409, &json!("conflict")));
    assert_eq!(again.code(), "P005");
    let bad = host.call("POST", "/apps", r#"{"name":"Shop!"}"#);
    assert_eq!((bad.status, bad.code()), (400, json!("P001")));
}

fn an_unknown_app_is_answered_with_the_nearest_name(host: &Host) {
    create(host, "shop");
    let reply = host.read("/apps/shpo/config-vars");
    assert_eq!(reply.status, 404);
    assert_eq!(
        reply.json(),
        json!({
            "id": "not_found",
            "message": "there is no app `shpo`: the nearest name is `shop`",
            "wharf": {
                "code": "P004",
                "what": "there is no app `shpo`",
                "why": "the nearest name is `shop`",
                "next": ["did you mean `shop`? then: -a shop"],
            }
        })
    );
}

fn who_has_no_token_is_not_let_in(host: &Host) {
    let nobody = host.read_tcp("/apps", &[]);
    assert_eq!((nobody.status, &nobody.json()["id"]), (401, &json!("unauthorized")));
    assert!(nobody.header("www-authenticate").starts_with("Basic"));
    assert!(!nobody.header("request-id").is_empty());
    assert_eq!(host.read_tcp("/nowhere", &[]).status, 401);
    let wrong = host.read_tcp("/apps", &[("authorization", "Bearer wharf-wrong")]);
    assert_eq!(wrong.code(), "P006");
    let bearer = format!("Bearer {}", host.token());
    let account = host.read_tcp("/account", &[("authorization", &bearer)]);
    assert_schema("account", &account.json());
    assert_eq!(account.json()["email"], "admin@localhost");
    assert_eq!(host.read("/account").json()["name"], "root");
    // A wrong token is wrong on the socket too.
    let wrong = host.read_with("/apps", &[("authorization", "Bearer wharf-wrong")]);
    assert_eq!(wrong.status, 401);
    // A push's ticket is good on the socket only, and nobody has one.
    let path = "/wharf/pushes/00000000-0000-0000-0000-000000000000";
    assert_eq!(host.call("POST", path, r#"{"refs":[]}"#).status, 404);
}

fn config_vars_make_releases_and_say_which(host: &Host) {
    create(host, "vars");
    let set = host.call("PATCH", "/apps/vars/config-vars", r#"{"A":"1","B":"2"}"#);
    assert_eq!((set.status, set.json()), (200, json!({"A": "1", "B": "2"})));
    assert_eq!((set.header("wharf-release"), set.header("wharf-deploy")), ("v1", ""));
    let unset = host.call("PATCH", "/apps/vars/config-vars", r#"{"B":null}"#);
    assert_eq!((unset.header("wharf-release"), unset.json()), ("v2", json!({"A": "1"})));
    let same = host.call("PATCH", "/apps/vars/config-vars", r#"{"A":"1"}"#);
    assert_eq!((same.status, same.header("wharf-release")), (200, ""));
    let old = host.read("/apps/vars/releases/v1/config-vars");
    assert_eq!(old.json(), json!({"A": "1", "B": "2"}));
    assert_list("release", &host.read("/apps/vars/releases").json());
    let bad = host.call("PATCH", "/apps/vars/config-vars", r#"{"A-B":"1"}"#);
    assert_eq!(bad.status, 400);
    let diff = host.read("/wharf/apps/vars/releases/v1/diff/2");
    let change = json!([{"what": "config var", "name": "B", "kind": "removed"}]);
    assert_eq!(diff.json(), json!({"from": 1, "to": 2, "changes": change}));
    assert!(!diff.text.contains("\"2\""), "no value in a diff");
}

fn lists_come_in_pages(host: &Host) {
    create(host, "pages");
    for number in 1..=5 {
        host.call("PATCH", "/apps/pages/config-vars", &format!(r#"{{"A":"{number}"}}"#));
    }
    let path = "/apps/pages/releases";
    let first = host.read_with(path, &[("range", "version ..; max=2, order=desc")]);
    assert_eq!((first.status, first.json().as_array().unwrap().len()), (206, 2));
    assert_eq!(
        (first.header("content-range"), &first.json()[0]["version"]),
        ("version 5..4", &json!(5))
    );
    let next = first.header("next-range").to_owned();
    assert_eq!(next, "version ]4..; max=2, order=desc");
    let second = host.read_with(path, &[("range", &next)]);
    assert_eq!(second.json()[0]["version"], 3);
    let last = host.read_with(path, &[("range", second.header("next-range"))]);
    assert_eq!((last.status, last.header("next-range")), (200, ""));
    let bad = host.read_with(path, &[("range", "age ..")]);
    assert_eq!((bad.status, bad.code()), (400, json!("P001")));
    let whole = host.read(path);
    assert_eq!((whole.status, whole.header("accept-ranges")), (200, "version, id"));
    let known = host.read_with(path, &[("if-none-match", whole.header("etag"))]);
    assert_eq!((known.status, known.text.as_str()), (304, ""));
    host.call("PATCH", "/apps/pages/config-vars", r#"{"A":"6"}"#);
    let changed = host.read_with(path, &[("if-none-match", whole.header("etag"))]);
    assert_eq!(changed.status, 200);
}

fn a_domain_has_one_owner(host: &Host) {
    create(host, "site");
    create(host, "blog");
    let body = r#"{"hostname":"Www.Example.com","sni_endpoint":null}"#;
    let added = host.call("POST", "/apps/site/domains", body);
    assert_eq!(added.status, 201, "{}", added.text);
    assert_schema("domain", &added.json());
    assert_eq!(added.json()["hostname"], "www.example.com");
    let taken = host.call("POST", "/apps/blog/domains", body);
    assert_eq!((taken.status, taken.code()), (409, json!("P401")));
    let own = host.call("POST", "/apps/blog/domains", r#"{"hostname":"site.localhost"}"#);
    assert_eq!(own.code(), "P401");
    let list = host.read("/apps/site/domains");
    assert_list("domain", &list.json());
    assert_eq!(list.json().as_array().unwrap().len(), 2);
    assert_eq!(host.call("DELETE", "/apps/site/domains/www.example.com", "").status, 200);
    let gone = host.call("DELETE", "/apps/site/domains/www.example.com", "");
    assert_eq!((gone.status, gone.code()), (404, json!("P402")));
    let stays = host.call("DELETE", "/apps/site/domains/site.localhost", "");
    assert_eq!((stays.status, stays.code()), (400, json!("P001")), "{}", stays.text);
    assert_eq!(host.call("POST", "/apps/blog/domains", body).status, 201);
    // A name whose own address is somebody's domain cannot be taken.
    let body = r#"{"hostname":"www.localhost"}"#;
    assert_eq!(host.call("POST", "/apps/blog/domains", body).status, 201);
    let refused = host.call("POST", "/apps", r#"{"name":"www"}"#);
    assert_eq!(refused.code(), "P005");
}

fn bad_requests_name_the_place_and_change_nothing(host: &Host) {
    create(host, "calm");
    let before = host.read("/apps").json();
    for (method, path, body, status, code) in [
        ("GET", "/nothing/here", "", 404, "P016"),
        ("PUT", "/apps", "", 405, "P016"),
        ("POST", "/apps", "{", 400, "P001"),
        ("PATCH", "/apps/calm", r#"{"maintenance":"yes"}"#, 400, "P001"),
        (
            "PATCH",
            "/apps/calm/formation",
            r#"{"updates":[{"type":"web","quantity":2}]}"#,
            409,
            "P015",
        ),
        ("PATCH", "/apps/calm/formation/web", "{}", 400, "P001"),
        ("DELETE", "/apps/calm/dynos", "", 409, "P015"),
        ("DELETE", "/apps/calm/dynos/web.1", "", 404, "P013"),
        ("POST", "/apps/calm/releases", r#"{"release":"v9"}"#, 404, "P014"),
        ("GET", "/apps/calm/releases/x", "", 404, "P014"),
        ("GET", "/apps/calm/builds/x", "", 404, "P016"),
        ("GET", "/wharf/apps/calm/deploys/x/progress", "", 404, "P016"),
        ("POST", "/wharf/pushes/x", r#"{"refs":[]}"#, 404, "P016"),
        ("POST", "/apps/calm/log-sessions", r#"{"source":"moon"}"#, 400, "P001"),
    ] {
        let reply = host.call(method, path, body);
        assert_eq!(
            (reply.status, reply.code()),
            (status, json!(code)),
            "{method} {path}: {}",
            reply.text
        );
    }
    let large = host.upload("/apps", &" ".repeat(2 << 20));
    assert!(large.contains("P017") && large.ends_with(" 413"), "{large}");
    assert_eq!(host.read("/apps").json(), before);
}
