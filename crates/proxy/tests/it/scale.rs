//! Many apps with many routes: a change of one is made while all are served, and costs by its own size.
//!
//! `WHARF_SCALE=10000` is the size of the promise; its times are printed, and asserted nowhere.

use std::sync::Arc;
use std::time::Instant;

use model::route::spec::Route;
use model::route::{Part, RouteTable, TableChange, Upstream, UpstreamState};

use crate::app::App;
use crate::edge::{Edge, app_id, tcp};
use crate::traffic::Traffic;

const ROUTES_EACH: usize = 10;

fn part(number: usize, app: &App, extra: usize) -> Arc<Part> {
    let mut routes: Vec<Route> = (0..ROUTES_EACH + extra)
        .map(|at| {
            let mut route = Route::plain(format!("h{at}.app{number}.example").parse().unwrap());
            route.when.path = format!("/part{at}").parse().unwrap();
            route
        })
        .collect();
    if number == 0 {
        routes.push(Route::plain("shop.localhost".parse().unwrap()));
    }
    routes.sort();
    let upstream = Upstream {
        app: format!("app{number}").parse().unwrap(),
        release: 1,
        state: UpstreamState::Live,
        is_paused: false,
        tells_timing: false,
        sleeps_after: None,
        balance: model::route::balance::Balance::default(),
        protocol: model::route::protocol::Protocol::default(),
        endpoints: vec![tcp(number as u128 + 1, app.address)],
    };
    Arc::new(Part { routes, upstream, edge: Default::default() })
}

#[tokio::test]
async fn a_change_among_very_many_routes_costs_no_request() {
    let apps: usize =
        std::env::var("WHARF_SCALE").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let (edge, app) = (Edge::start().await, App::start("shop").await);
    let parts = (0..apps).map(|number| (app_id(number as u128 + 1), part(number, &app, 0)));
    let table = RouteTable { version: 1, parts: parts.collect() };
    let began = Instant::now();
    edge.apply(table).await;
    let whole = began.elapsed();
    let traffic = Traffic::start(edge.address, 300, &["shop"]);
    traffic.more(50).await;
    let mut times = Vec::new();
    for version in 2..=30_u64 {
        let number = usize::try_from(version).unwrap() % apps;
        let parts = [(app_id(number as u128 + 1), Some(part(number, &app, 1)))].into();
        let change = TableChange { base: version - 1, version, parts };
        let began = Instant::now();
        edge.client.change(&change).await.unwrap();
        times.push(began.elapsed());
        let host = format!("h{ROUTES_EACH}.app{number}.example");
        let path = format!("/part{ROUTES_EACH}/x");
        assert_eq!(edge.get(&host, &path).await.body, format!("shop {path} "));
    }
    traffic.more(50).await;
    traffic.stop(&[&app]).await.assert_clean();
    times.sort();
    let routes = apps * ROUTES_EACH;
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{apps} apps, {routes} routes: whole {whole:?}, change {median:?}, at most {worst:?}");
    // Changes are kept by their own size.
    let kept = |name: &str| std::fs::metadata(edge.config.state_dir.join(name)).unwrap().len();
    assert!(kept("changes") * 10 < kept("routes"), "{} {}", kept("changes"), kept("routes"));
}
