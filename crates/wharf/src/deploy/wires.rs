//! Who uses whom: tells each replica's wire where the apps it has links to answer now.
//!
//! Keepers say what answers for their app and which of their replicas use others; what follows is
//! written to the replicas' folders at once. What is not known yet after a restart of the daemon
//! leaves untouched what was written before: a wire goes on by it meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use engine::links::Link;
use engine::spec::OpenPorts;
use model::app::App;
use model::id::{AppId, ReplicaId};
use model::link::{DOMAIN, LinkPort, LinkSpec, addresses, find_circle};
use model::name::{AppName, LinkName, ProcessType};
use model::problem::{Code, Problem};
use tokio::sync::Mutex;

use super::idle::Idle;
use super::release::ground;
use crate::backend::local::Local;
use crate::store::{StoreError, Tx, apps, links};

/// A link with the app it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    pub spec: LinkSpec,
    /// None: there is no app of that name.
    pub to: Option<AppId>,
    /// Given by command.
    pub is_given: bool,
}

/// What an app uses: what was given by command, and what the app file says beside that.
pub fn uses(tx: &Tx<'_>, app: AppId, file: &[LinkSpec]) -> Result<Vec<Use>, StoreError> {
    let given = links::list(tx, app)?;
    let mut all: Vec<Use> = given
        .into_iter()
        .map(|link| Use { spec: link.spec, to: Some(link.to), is_given: true })
        .collect();
    for spec in file {
        if all.iter().any(|one| one.spec.name == spec.name) {
            continue;
        }
        let to = apps::find_by_name(tx, &spec.app)?.filter(|app| !app.is_doomed);
        all.push(Use { spec: spec.clone(), to: to.map(|app| app.id), is_given: false });
    }
    all.sort_by(|one, other| one.spec.name.cmp(&other.spec.name));
    Ok(all)
}

/// The address of each use inside.
pub fn places(uses: &[Use]) -> BTreeMap<LinkName, Ipv4Addr> {
    addresses(&uses.iter().map(|one| one.spec.name.clone()).collect())
}

/// Whether an app could use these: they are there, and none of them comes round to it again.
pub fn check(
    tx: &Tx<'_>,
    app: &App,
    wanted: &[LinkSpec],
) -> Result<Result<(), Problem>, StoreError> {
    let all = apps::list(tx)?;
    let mut graph: BTreeMap<AppName, BTreeSet<AppName>> = BTreeMap::new();
    let names: BTreeMap<AppId, &AppName> = all.iter().map(|one| (one.id, &one.name)).collect();
    for one in &all {
        let file = ground(tx, one.id)?.map(|release| release.shape.uses).unwrap_or_default();
        let used = uses(tx, one.id, &file)?;
        let used = used.iter().filter_map(|one| names.get(&one.to?).copied().cloned());
        graph.insert(one.name.clone(), used.collect());
    }
    for link in wanted {
        if all.iter().all(|one| one.name != link.app || one.is_doomed) {
            return Ok(Err(target_unknown(app, link)));
        }
        graph.entry(app.name.clone()).or_default().insert(link.app.clone());
        if let Some(circle) = find_circle(&graph, &app.name) {
            return Ok(Err(in_a_circle(app, link, &circle)));
        }
    }
    Ok(Ok(()))
}

fn target_unknown(app: &App, link: &LinkSpec) -> Problem {
    let what = format!("`{}` cannot use `{}`: there is no such app", app.name, link.app);
    Problem::new(Code::LinkTargetUnknown, what)
        .why("a link leads to an app that is there; it need not run yet")
        .still("nothing was changed")
        .next("wharf apps")
        .next(format!("or make it first: wharf create {}", link.app))
}

fn in_a_circle(app: &App, link: &LinkSpec, circle: &[AppName]) -> Problem {
    let what = format!("`{}` cannot use `{}`", app.name, link.app);
    let problem = Problem::new(Code::LinkCircle, what).still("nothing was changed");
    if link.app == app.name {
        return problem.why("that is itself").next(
            "its own replicas answer on localhost; other processes of it are reached by the edge",
        );
    }
    let way: Vec<String> = circle.iter().map(|app| format!("`{app}`")).collect();
    problem
        .why(format!("it would come round to itself: {}", way.join(" uses ")))
        .next("take one of those links away, or join what belongs together into one app")
}

/// Replicas that answer, by process type.
pub(super) type Answering = BTreeMap<ProcessType, BTreeSet<ReplicaId>>;

/// The wires of all replicas.
#[derive(Debug)]
pub(super) struct Wires {
    backend: Arc<Local>,
    idle: Arc<Idle>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// An app that is missing was not looked at yet.
    answering: BTreeMap<AppId, Answering>,
    users: BTreeMap<ReplicaId, User>,
    /// Of replicas that answer to somebody.
    ports: BTreeMap<ReplicaId, OpenPorts>,
}

/// A replica that uses others.
#[derive(Debug)]
struct User {
    uses: Vec<Use>,
    /// Its wire knows it.
    is_settled: bool,
}

impl Wires {
    pub(super) fn new(backend: Arc<Local>, idle: Arc<Idle>) -> Self {
        Self { backend, idle, known: Mutex::default() }
    }

    /// What answers for an app from now on. When this returns, new connections go there.
    pub(super) async fn answer(&self, app: AppId, now: &Answering) {
        let mut known = self.known.lock().await;
        let before = known.answering.insert(app, now.clone());
        for gone in before.iter().flat_map(Answering::values).flatten() {
            if !now.values().any(|all| all.contains(gone)) {
                known.ports.remove(gone);
            }
        }
        if before.as_ref() == Some(now) {
            return;
        }
        let leads = |one: &Use| one.to == Some(app);
        let told = known.users.iter().filter(|(_, user)| user.uses.iter().any(leads));
        let told: Vec<ReplicaId> = told.map(|(id, _)| *id).collect();
        for id in told {
            self.tell(&mut known, id).await;
        }
    }

    /// What a replica that runs uses from now on.
    pub(super) async fn wire(&self, id: ReplicaId, uses: &[Use]) {
        let mut known = self.known.lock().await;
        match known.users.get(&id) {
            Some(user) if user.is_settled && user.uses == uses => return,
            Some(_) => {}
            None if uses.is_empty() && self.backend.links(id).await.is_empty() => {
                known.users.insert(id, User { uses: Vec::new(), is_settled: true });
                return;
            }
            None => {}
        }
        for to in uses.iter().filter_map(|one| one.to) {
            self.idle.knock(to, "an app that uses it is there");
        }
        known.users.insert(id, User { uses: uses.to_vec(), is_settled: false });
        self.tell(&mut known, id).await;
    }

    /// Whether a replica that is there has a link to that app.
    pub(super) async fn is_used(&self, app: AppId) -> bool {
        let known = self.known.lock().await;
        known.users.values().any(|user| user.uses.iter().any(|one| one.to == Some(app)))
    }

    /// The links a replica is started with; what follows it hears of.
    pub(super) async fn begin(&self, id: ReplicaId, uses: &[Use]) -> Vec<Link> {
        let mut known = self.known.lock().await;
        for to in uses.iter().filter_map(|one| one.to) {
            self.idle.knock(to, "an app that uses it starts");
        }
        known.users.insert(id, User { uses: uses.to_vec(), is_settled: uses.is_empty() });
        self.links(&mut known, uses, &[]).await
    }

    /// The ports that are open in the replicas which answer for an app's process.
    pub(super) async fn open_ports(
        &self,
        app: AppId,
        process: &ProcessType,
    ) -> Vec<(ReplicaId, OpenPorts)> {
        let mut known = self.known.lock().await;
        let answering = known.answering.get(&app).and_then(|all| all.get(process));
        let answering: Vec<ReplicaId> = answering.into_iter().flatten().copied().collect();
        let mut all = Vec::with_capacity(answering.len());
        for id in answering {
            all.push((id, self.open(&mut known, &[], &[id]).await));
        }
        all
    }

    /// A replica is gone.
    pub(super) async fn forget(&self, id: ReplicaId) {
        self.known.lock().await.users.remove(&id);
    }

    async fn tell(&self, known: &mut Known, id: ReplicaId) {
        let uses = known.users.get(&id).map(|user| user.uses.clone()).unwrap_or_default();
        let before = self.backend.links(id).await;
        let now = self.links(known, &uses, &before).await;
        // Also when nothing changed: a wire may have missed the word when the daemon died.
        let told = self.backend.set_links(id, now).await;
        if let Err(error) = &told {
            // Mostly one that is still being started; its keeper comes again.
            tracing::debug!(replica = %id, error = error.for_people(), "its links stay as they were");
        }
        if let Some(user) = known.users.get_mut(&id) {
            user.is_settled = told.is_ok();
        }
    }

    async fn links(&self, known: &mut Known, uses: &[Use], before: &[Link]) -> Vec<Link> {
        let places = places(uses);
        let mut all = Vec::with_capacity(uses.len());
        for one in uses {
            let name = format!("{}.{DOMAIN}", one.spec.name);
            let Some(&address) = places.get(&one.spec.name) else { continue };
            let answering = one.to.map(|to| known.answering.get(&to));
            if matches!(answering, Some(None))
                && let Some(kept) = before.iter().find(|link| link.name == name)
            {
                all.push(kept.clone());
                continue;
            }
            let targets = answering.flatten().and_then(|all| all.get(&one.spec.process));
            let targets: Vec<ReplicaId> = targets.into_iter().flatten().copied().collect();
            let open = self.open(known, &one.spec.ports, &targets).await;
            let (mut tcp, mut udp) = (open.tcp, open.udp);
            if targets.is_empty() && one.spec.ports.is_empty() {
                // While nobody answers, those who come wait at the doors there were.
                let kept = before.iter().filter(|link| link.name == name && one.to.is_some());
                for link in kept {
                    tcp.extend(&link.tcp);
                    udp.extend(&link.udp);
                }
            }
            all.push(Link {
                name,
                address,
                tcp: tcp.into_iter().collect(),
                udp: udp.into_iter().collect(),
                targets: targets.iter().map(|id| self.backend.dial_socket(*id)).collect(),
            });
        }
        all
    }

    /// The ports of a link: those it names, or all that those who answer have open.
    async fn open(&self, known: &mut Known, said: &[LinkPort], targets: &[ReplicaId]) -> OpenPorts {
        let mut open = OpenPorts::default();
        for port in said {
            match port {
                LinkPort::Tcp(number) => open.tcp.insert(*number),
                LinkPort::Udp(number) => open.udp.insert(*number),
            };
        }
        if !said.is_empty() {
            return open;
        }
        for id in targets {
            if !known.ports.contains_key(id) {
                let found = self.backend.open_ports(*id).await;
                known.ports.insert(*id, found);
            }
            let found = known.ports.get(id).cloned().unwrap_or_default();
            open.tcp.extend(found.tcp);
            open.udp.extend(found.udp);
        }
        open
    }
}
