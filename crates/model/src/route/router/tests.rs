use std::collections::BTreeMap;

use super::*;
use crate::route::order::host_class;
use crate::route::redirect::Redirect;
use crate::route::spec::{Action, Serve, When};

fn app(number: u128) -> AppId {
    AppId(uuid::Uuid::from_u128(number))
}

/// `host/path METHOD name=value weight:3 redirect:https`; only the host must be there. A path that does
/// not begin with a slash stands after a `~`.
fn route(text: &str) -> Route {
    let mut words = text.split(' ');
    let subject = words.next().unwrap();
    let at = subject.find(['/', '=']).unwrap_or(subject.len());
    let (host, path) = subject.split_once('~').unwrap_or(subject.split_at(at));
    let mut when = When::default();
    if !path.is_empty() {
        when.path = path.parse().unwrap();
    }
    let mut action = Action::default();
    for word in words {
        if let Some(weight) = word.strip_prefix("weight:") {
            when.weight = weight.parse().unwrap();
        } else if let Some(to) = word.strip_prefix("redirect:") {
            action = Action::Redirect { to: to.parse().unwrap(), status: 301 };
        } else if let Some((name, value)) = word.split_once('=') {
            when.headers.insert(name.into(), value.into());
        } else {
            when.methods.insert(word.into());
        }
    }
    let route = Route { host: host.parse().unwrap(), when, action };
    route.check().unwrap();
    route
}

fn router(routes: &[(u128, &str)]) -> Router {
    let mut router = Router::default();
    for (owner, text) in routes {
        let after = [route(text)];
        router.apply(&[Edit { owner: app(*owner), before: &[], after: &after }]).unwrap();
    }
    router
}

/// Whose route `METHOD host/path name=value` is; `tls` is a word too.
fn owner(router: &Router, text: &str) -> Option<u128> {
    let words: Vec<&str> = text.split(' ').collect();
    let (host, path) = words[1].split_at(words[1].find('/').unwrap());
    let ask = Ask { host, path, method: words[0], is_tls: words.contains(&"tls") };
    let headers: Vec<_> = words.iter().filter_map(|word| word.split_once('=')).collect();
    let has = |name: &str, wanted: &str| {
        headers.iter().any(|(n, v)| *n == name && Route::header_matches(wanted, v.as_bytes()))
    };
    router.find(&ask, has).map(|placed| placed.owner.0.as_u128())
}

#[test]
fn the_order_of_precedence_is_the_documented_one() {
    // In each line the first route loses to the second for the request.
    for (loser, winner, request) in [
        ("*", "*.x.example", "GET a.x.example/"),
        ("*.x.example", "a.x.example", "GET a.x.example/"),
        // A better host wins whatever the rest says …
        ("*.x.example/long/path weight:9", "a.x.example", "GET a.x.example/long/path"),
        // … then the weight …
        ("a.x/api/v1", "a.x/api weight:1", "GET a.x/api/v1"),
        ("a.x~*/styles/*.*", "a.x~*/*.action weight:1", "GET a.x/styles/x.action"),
        // … then the path.
        ("a.x/api", "a.x=/api", "GET a.x/api"),
        ("a.x~/ap*i", "a.x=/api", "GET a.x/api"),
        ("a.x/", "a.x/api", "GET a.x/api/x"),
        ("a.x/api", "a.x/api/v1", "GET a.x/api/v1/x"),
        ("a.x/", "a.x~*.css", "GET a.x/y.css"),
        ("a.x/api", "a.x~*/styles/*.*", "GET a.x/api/styles/a.css"),
        ("a.x~*.css", "a.x/static/all", "GET a.x/static/all/a.css"),
        ("a.x~/ap*", "a.x/ap", "GET a.x/ap"),
        // At equal paths: redirects with a condition, headers, methods.
        ("a.x", "a.x redirect:https", "GET a.x/"),
        ("a.x b=1", "a.x redirect:https", "GET a.x/ b=1"),
        ("a.x b=1", "a.x b=1 c=2", "GET a.x/ b=1 c=2"),
        ("a.x GET", "a.x b=*", "GET a.x/ b=1"),
        ("a.x", "a.x GET", "GET a.x/"),
        // The last resort is the text.
        ("a.x~/b*c", "a.x~/*bc", "GET a.x/bc"),
    ] {
        let both = [(1, loser), (2, winner)];
        assert_eq!(owner(&router(&both), request), Some(2), "{winner} beats {loser}");
        let both = [(2, winner), (1, loser)];
        assert_eq!(owner(&router(&both), request), Some(2), "the order of adding is none");
        assert_eq!(owner(&router(&[(1, loser)]), request), Some(1), "{loser} matches");
    }
}

#[test]
fn what_a_route_does_not_take_goes_to_the_next_best() {
    let router = router(&[
        (1, "*"),
        (2, "*.x.example"),
        (3, "a.x.example/api POST"),
        (4, "a.x.example/api beta=yes*"),
        (5, "a.x.example redirect:https"),
        (6, "www.x.example redirect:bare"),
    ]);
    for (request, expected) in [
        ("POST a.x.example/api tls", 3),
        ("GET a.x.example/api tls", 2),
        ("GET a.x.example/api beta=yes! tls", 4),
        ("GET a.x.example/api beta=no tls", 2),
        ("POST a.x.example/api beta=yes", 4),
        ("GET a.x.example/", 5),
        ("GET a.x.example/ tls", 2),
        ("GET www.x.example/ tls", 6),
        ("GET x.example/", 1),
    ] {
        assert_eq!(owner(&router, request), Some(expected), "{request}");
    }
    assert_eq!(owner(&Router::default(), "GET a.x/"), None);
}

#[test]
fn two_owners_of_the_same_requests_are_refused_by_name() {
    let mut table = router(&[(1, "a.x/api GET b=1")]);
    let before = table.clone();
    let same = [route("a.x/b"), route("a.x/api GET b=1 weight:7")];
    let edit = Edit { owner: app(2), before: &[], after: &same };
    let conflict = table.apply(&[edit]).unwrap_err();
    let RouteConflict { subject, first, second } = &conflict;
    assert_eq!((first, second), (&app(1), &app(2)));
    assert_eq!(subject, "a.x/api GET b=1");
    assert_eq!(owner(&table, "GET a.x/b"), None, "all or none");
    assert_eq!(table.copied_since(&before), 0);
    // A host that moves from one to the other in one change is no conflict.
    let had = [route("a.x/api GET b=1")];
    let edits = [edit, Edit { owner: app(1), before: &had, after: &[] }];
    table.apply(&edits).unwrap();
    assert_eq!(owner(&table, "GET a.x/api b=1"), Some(2));
}

#[test]
fn what_is_empty_is_taken_away() {
    let texts = ["a.x/b/c", "*.x~/d/*", "*", "a.x=/b"].map(route);
    let mut table = Router::default();
    let edit = Edit { owner: app(1), before: &[], after: &texts };
    assert_eq!(table.apply(&[edit]).unwrap(), Work { taken_out: 0, put_in: 4 });
    assert!(table.has_paths("a.x") && !table.has_paths("other"));
    let edit = Edit { owner: app(1), before: &texts, after: &[] };
    assert_eq!(table.apply(&[edit]).unwrap(), Work { taken_out: 4, put_in: 0 });
    assert!(table.exact.is_empty() && table.below.is_empty());
    assert_eq!(*table.any, Node::default());
}

/// A number of the seed's own row (xorshift).
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 20).unwrap() % end
    }

    fn of<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

const HOSTS: [&str; 6] = ["x.y", "a.x.y", "b.x.y", "a.b.x.y", "z", "a.z"];
const METHODS: [&str; 3] = ["GET", "POST", "ODD"];
const SEGMENTS: [&str; 4] = ["a", "b", "ab", "b.a"];

fn random_route(draw: &mut Draw) -> Route {
    let host = draw.of(&["x.y", "a.x.y", "*.x.y", "*.z", "*", "z"]).parse().unwrap();
    let mut when = When { weight: u16::try_from(draw.below(2)).unwrap(), ..When::default() };
    let mut path: String = (0..draw.below(4)).map(|_| format!("/{}", draw.of(&SEGMENTS))).collect();
    match draw.below(4) {
        0 => path = format!("={}", if path.is_empty() { "/" } else { &path }),
        1 => path.push_str(draw.of(&["/*", "*a", "/*/b", "*"])),
        2 if draw.below(2) == 0 => path = format!("*{path}*"),
        _ if path.is_empty() => path.push('/'),
        _ => {}
    }
    when.path = path.parse().unwrap();
    if draw.below(4) == 0 {
        when.methods.insert(draw.of(&METHODS).into());
    }
    if draw.below(4) == 0 {
        when.headers.insert(draw.of(&["h", "i"]).into(), draw.of(&["1", "*"]).into());
    }
    let action = match draw.below(8) {
        0 => Action::Redirect { to: Redirect::Https, status: 301 },
        1 => Action::Serve(Serve { strip: false, ..Serve::default() }),
        _ => Action::default(),
    };
    Route { host, when, action }
}

/// Every route looked at, and what each word of it means said plainly once more.
fn oracle<'a>(
    table: &'a BTreeMap<AppId, Vec<Route>>,
    ask: &Ask<'_>,
    headers: &BTreeMap<&str, &str>,
) -> Option<(AppId, &'a Route)> {
    let all = table.iter().flat_map(|(owner, routes)| routes.iter().map(move |r| (*owner, r)));
    let takes = |route: &Route| {
        let host = match &route.host {
            HostPattern::Exact(host) => host.as_str() == ask.host,
            HostPattern::Below(base) => ask
                .host
                .strip_suffix(base.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|label| !label.is_empty() && !label.contains('.')),
            HostPattern::Any => true,
        };
        let path = match &route.when.path {
            PathPattern::Prefix(prefix) => {
                let wanted: Vec<&str> = prefix.split('/').collect();
                let given: Vec<&str> = ask.path.split('/').collect();
                prefix.is_empty() || given.starts_with(&wanted)
            }
            PathPattern::Exact(path) => path == ask.path,
            PathPattern::Glob(pattern) => crate::route::glob::matches(pattern, ask.path),
        };
        let methods = &route.when.methods;
        let wanted = &route.when.headers;
        host && path
            && (methods.is_empty() || methods.iter().any(|m| m == ask.method))
            && wanted
                .iter()
                .all(|(n, v)| headers.get(n.as_str()).is_some_and(|h| v == "*" || v == h))
            && (matches!(route.action, Action::Serve(_)) || !ask.is_tls)
    };
    all.filter(|(_, route)| takes(route))
        .min_by_key(|(_, route)| (host_class(&route.host), Rank::of(route)))
}

#[test]
fn the_index_agrees_with_looking_at_every_route() {
    let mut matched = 0;
    for seed in 1..=120_u64 {
        let mut draw = Draw(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut table: BTreeMap<AppId, Vec<Route>> = BTreeMap::new();
        let mut router = Router::default();
        for _ in 0..60 {
            let owner = app(1 + draw.below(5) as u128);
            let before = table.get(&owner).cloned().unwrap_or_default();
            let mut after = before.clone();
            if draw.below(3) == 0 && !after.is_empty() {
                after.remove(draw.below(after.len()));
            } else {
                after.push(random_route(&mut draw));
            }
            let unchanged = router.clone();
            match router.apply(&[Edit { owner, before: &before, after: &after }]) {
                Ok(_) => {
                    table.insert(owner, after);
                }
                Err(_) => {
                    let subject = after.last().unwrap().subject();
                    let mut all = table.values().flatten();
                    assert!(all.any(|route| route.subject() == subject), "no conflict there");
                    router = unchanged;
                }
            }
            for _ in 0..12 {
                let mut path: String =
                    (0..draw.below(4)).map(|_| format!("/{}", draw.of(&SEGMENTS))).collect();
                if path.is_empty() || draw.below(5) == 0 {
                    path.push('/');
                }
                let host = draw.of(&HOSTS);
                let (method, is_tls) = (draw.of(&METHODS), draw.below(2) == 0);
                let ask = Ask { host, path: &path, method, is_tls };
                let mut headers = BTreeMap::new();
                if draw.below(2) == 0 {
                    headers.insert(draw.of(&["h", "i"]), draw.of(&["1", "2"]));
                }
                let found = router.find(&ask, |name, wanted| {
                    let value = headers.get(name);
                    value.is_some_and(|value| Route::header_matches(wanted, value.as_bytes()))
                });
                let found = found.map(|placed| (placed.owner, &placed.route));
                assert_eq!(found, oracle(&table, &ask, &headers), "seed {seed} {ask:?}");
                matched += usize::from(found.is_some());
            }
        }
    }
    assert!(matched > 20_000, "{matched} requests had a route");
}

#[test]
fn a_change_among_many_copies_only_its_own_part() {
    let hosts = |number: usize| -> Vec<Route> {
        (0..10).map(|host| route(&format!("h{host}.app{number}.example/p"))).collect()
    };
    let mut table = Router::default();
    let all: Vec<Vec<Route>> = (0..2000).map(hosts).collect();
    let edits: Vec<Edit<'_>> = (1..)
        .zip(&all)
        .map(|(number, after)| Edit { owner: app(number), before: &[], after })
        .collect();
    assert_eq!(table.apply(&edits).unwrap().put_in, 20_000);
    let before = table.clone();
    let mut after = all[7].clone();
    after[3] = route("new.app7.example");
    let edit = Edit { owner: app(8), before: &all[7], after: &after };
    assert_eq!(table.apply(&[edit]).unwrap(), Work { taken_out: 1, put_in: 1 });
    assert!(table.copied_since(&before) <= 2);
    let same = Edit { owner: app(8), before: &after, after: &after };
    let before = table.clone();
    assert_eq!(table.apply(&[same]).unwrap(), Work::default());
    assert_eq!(table.copied_since(&before), 0);
    assert_eq!(owner(&table, "GET new.app7.example/"), Some(8));
    assert_eq!(owner(&table, "GET h3.app7.example/p"), None);
}
