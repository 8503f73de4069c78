//! Looking at replicas, and starting some of them afresh.

use std::collections::BTreeMap;

use model::app::App;
use model::problem::{Code, Problem};
use model::release::Release;
use model::size::ByteSize;

use super::releases::newest_or_serving;
use super::{decide, lookup};
use crate::context::Context;
use crate::deploy::ReplicaView;
use crate::store::releases;

/// A replica, and the release it runs.
#[derive(Debug, Clone)]
pub struct Running {
    pub view: ReplicaView,
    pub release: Release,
    /// In use now.
    pub memory: Option<ByteSize>,
    /// What a one-off runs.
    one_off: Option<String>,
}

impl Running {
    /// The command it was given, or that its process type has in its release.
    pub fn command(&self) -> &str {
        if let Some(command) = &self.one_off {
            return command;
        }
        let spec = self.release.shape.processes.get(&self.view.replica.process);
        spec.map_or("", |spec| spec.command.as_str())
    }
}

/// An app's replicas as they are now.
pub async fn list(context: &Context, key: &str) -> Result<(App, Vec<Running>), Problem> {
    let app = lookup::app(context, key).await?;
    let id = app.id;
    let replicas = context.deploys.replicas(id).await.into_iter().map(|view| (view, None));
    let one_offs = context.deploys.one_offs(id).into_iter();
    let one_offs = one_offs.map(|(view, command)| (view, Some(command)));
    let views: Vec<_> = replicas.chain(one_offs).collect();
    let ids = views.iter().map(|(view, _)| view.replica.id).collect();
    let used = context.backend.memory_of(ids).await;
    let running = decide(context, move |tx| {
        let mut known: BTreeMap<u64, Release> = BTreeMap::new();
        let mut all = Vec::with_capacity(views.len());
        for (view, one_off) in views {
            let version = view.replica.release;
            let release = match known.get(&version) {
                Some(release) => release.clone(),
                // A place that waits for its next start is of no release in particular.
                None => match releases::find(tx, id, version)? {
                    Some(release) => release,
                    None => match newest_or_serving(tx, id)? {
                        Some(release) => release,
                        None => continue,
                    },
                },
            };
            known.insert(version, release.clone());
            let memory = used.get(&view.replica.id).copied();
            all.push(Running { view, release, memory, one_off });
        }
        Ok(Ok(all))
    })
    .await?;
    Ok((app, running))
}

/// One replica by name (`web.1`) or id. While a deploy goes on, or its predecessor is kept, there are two
/// of a name: the one that stays is meant.
pub async fn find(context: &Context, key: &str, replica: &str) -> Result<(App, Running), Problem> {
    let (app, running) = list(context, key).await?;
    let names: Vec<String> = running.iter().map(|running| running.view.replica.name()).collect();
    let is_meant = |running: &Running| {
        let one = &running.view.replica;
        one.name() == replica || one.id.to_string() == replica
    };
    let found = running.into_iter().filter(is_meant).max_by_key(|one| {
        let is_staying = one.view.status != "stopping";
        (!one.view.is_kept(), is_staying, one.view.replica.generation)
    });
    found.ok_or_else(|| unknown(&app, replica, &names)).map(|running| (app, running))
}

/// Ends one replica, or all of a process type, so that a fresh one takes its place; a one-off ends for
/// good.
pub async fn recycle(context: &Context, key: &str, name: &str) -> Result<App, Problem> {
    let app = lookup::app(context, key).await?;
    let recycled = context.deploys.recycle(app.id, Some(name.to_owned())).await;
    if recycled + context.deploys.stop_one_offs(app.id, name) > 0 {
        return Ok(app);
    }
    let views = context.deploys.replicas(app.id).await;
    let names: Vec<String> = views.iter().map(|view| view.replica.name()).collect();
    Err(unknown(&app, name, &names))
}

fn unknown(app: &App, replica: &str, names: &[String]) -> Problem {
    let problem =
        Problem::new(Code::ReplicaUnknown, format!("`{}` has no replica `{replica}`", app.name));
    match lookup::nearest(replica, names) {
        Some(name) => problem.next(format!("did you mean `{name}`?")),
        None if names.is_empty() => problem.why("nothing of it runs now"),
        None => problem.why(format!("it has {}", names.join(", "))),
    }
    .next(format!("wharf ps -a {}", app.name))
}
