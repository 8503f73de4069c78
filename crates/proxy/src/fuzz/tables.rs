//! What the daemon tells of routes: a whole table or a change, decoded, compiled and asked.

use std::sync::Arc;

use model::route::spec::Ask;
use model::route::{RouteTable, TableChange};

use crate::control::Question;
use crate::table::{PartEdit, Registry, Table};

/// A line on the control socket. Tables that are taken must give the same answers whichever way they
/// were put together.
pub fn route_table(bytes: &[u8]) {
    let Ok(question) = serde_json::from_slice::<Question>(bytes) else { return };
    match question {
        Question::Apply(table) => check(&table),
        Question::Change(change) => {
            let mut table = RouteTable { version: change.base, ..RouteTable::default() };
            if table.change(&change) {
                check(&table);
            }
        }
        Question::Certify(table) => {
            let json = serde_json::to_vec(&table).expect("a table is JSON");
            let again = serde_json::from_slice(&json).expect("and is read again");
            assert_eq!(*table, again);
            if let Ok(tls) = crate::tls::Tls::new() {
                let _refused_is_fine = tls.publish(&table);
            }
        }
        Question::Status
        | Question::Table
        | Question::Measures
        | Question::WaitIdle { .. }
        | Question::TurnAway { .. }
        | Question::Subscribe => {}
    }
}

fn check(table: &RouteTable) {
    let json = serde_json::to_vec(table).expect("a table is JSON");
    let again: RouteTable = serde_json::from_slice(&json).expect("and is read again");
    assert_eq!(*table, again, "kept and loaded again");
    let whole = RouteTable::default().difference(table);
    let at_once = compile(&mut Registry::default(), &RouteTable::default(), &whole);
    // One app after the other, each beside those before it.
    let (mut registry, mut known) = (Registry::default(), RouteTable::default());
    let mut one_by_one = Some(Arc::new(Table::default()));
    for (app, part) in &table.parts {
        let parts = [(*app, Some(part.clone()))].into();
        let step = TableChange { base: known.version, version: known.version + 1, parts };
        one_by_one = compile(&mut registry, &known, &step);
        if one_by_one.is_none() {
            break;
        }
        assert!(known.change(&step));
    }
    assert_eq!(at_once.is_some(), one_by_one.is_some(), "a conflict is one either way");
    let (Some(at_once), Some(one_by_one)) = (at_once, one_by_one) else { return };
    for part in table.parts.values() {
        for route in &part.routes {
            ask((&at_once, &one_by_one), &route.host.to_string(), &route.when.path.to_string());
        }
    }
    // And with all taken out again, nothing is left.
    let gone = known.difference(&RouteTable { version: u64::MAX, ..RouteTable::default() });
    let empty = compile(&mut registry, &known, &gone).expect("taking out is no conflict");
    for route in table.parts.values().flat_map(|part| &part.routes) {
        assert!(!empty.has_host(&host(&route.host.to_string())), "a route that was taken out");
    }
}

fn compile(
    registry: &mut Registry,
    before: &RouteTable,
    change: &TableChange,
) -> Option<Arc<Table>> {
    let edits: Vec<PartEdit<'_>> = change
        .parts
        .iter()
        .map(|(app, after)| (*app, before.parts.get(app).map(Arc::as_ref), after.as_deref()))
        .collect();
    let compiled = registry.apply(&edits).ok();
    if compiled.is_some() {
        registry.forget_gone(change.parts.keys().copied());
    }
    compiled
}

/// A host that a pattern takes.
fn host(pattern: &str) -> String {
    pattern.replace('*', "a")
}

/// Both tables answer alike, for the route's own path and for others beside it.
fn ask((one, other): (&Table, &Table), pattern: &str, path: &str) {
    let path = path.replace('*', "x/y");
    for path in [path.as_str(), "/", "/a//b", "/%2e%2e/x", &format!("{path}/z")] {
        for method in ["GET", "POST"] {
            for is_tls in [false, true] {
                let host = host(pattern);
                let ask = Ask { host: &host, path, method, is_tls };
                let find = |table: &Table| {
                    let placed = table.router.find(&ask, |_, _| true).cloned();
                    let placed = placed?;
                    // Wherever it leads, the owner has a pool.
                    assert!(table.upstream(placed.owner).is_some(), "a route of nobody");
                    Some(placed)
                };
                assert_eq!(find(one), find(other), "{host}{path}");
            }
        }
    }
}
