//! What differs between two releases: a value, in a fixed order. Config vars are compared, and named,
//! but never shown.

use std::collections::{BTreeMap, BTreeSet};

use model::release::Release;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `image`, `commit`, `process`, `limits`, `config var`, `replicas`, `domain`, `volume`,
    /// `setting`.
    pub what: &'static str,
    /// Which one, where there are many.
    pub name: Option<String>,
    pub side: Side,
}

/// Which side has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    Added(Option<String>),
    Removed(Option<String>),
    Changed(Option<(String, String)>),
}

/// Everything that differs, from one to the other.
pub fn between(from: &Release, to: &Release) -> Vec<Difference> {
    let mut all = Vec::new();
    let single = |what, of: fn(&Release) -> Option<String>| one(what, of(from), of(to));
    all.extend(single("commit", |release| release.commit.clone()));
    all.extend(single("image", |release| release.image.as_ref().map(|image| image.0.clone())));
    all.extend(single("pack", |release| release.shape.pack.clone()));
    all.extend(single("release command", |release| release.shape.release_command.clone()));
    let many = |what, of: fn(&Release) -> BTreeMap<String, String>| each(what, &of(from), &of(to));
    all.extend(many("process", |release| {
        let processes = release.shape.processes.iter();
        processes.map(|(name, spec)| (name.to_string(), spec.command.clone())).collect()
    }));
    all.extend(many("limits", |release| {
        let processes = release.shape.processes.iter();
        processes
            .map(|(name, _)| (name.to_string(), release.shape.limits(name).to_string()))
            .collect()
    }));
    all.extend(config_vars(from, to));
    all.extend(many("replicas", |release| {
        release
            .formation
            .iter()
            .map(|(name, count)| (name.to_string(), count.to_string()))
            .collect()
    }));
    all.extend(many("domain", |release| {
        release.domains.iter().map(|host| (host.to_string(), String::new())).collect()
    }));
    all.extend(many("volume", |release| {
        let volumes = release.shape.all_volumes();
        volumes.iter().map(|(name, volume)| (name.to_string(), volume.to_string())).collect()
    }));
    all.extend(many("setting", settings));
    all
}

fn settings(release: &Release) -> BTreeMap<String, String> {
    let run = &release.shape.run;
    let mut all = BTreeMap::from([
        ("port".to_owned(), run.port.to_string()),
        ("boot timeout".to_owned(), format!("{} s", run.boot_timeout.as_secs())),
        ("drain timeout".to_owned(), format!("{} s", run.drain_timeout.as_secs())),
        ("grace".to_owned(), format!("{} s", run.grace.as_secs())),
        ("read-only".to_owned(), if run.is_read_only { "yes" } else { "no" }.to_owned()),
    ]);
    if let Some(path) = &run.health_path {
        all.insert("health path".to_owned(), path.clone());
    }
    if !run.protocol.is_default() {
        all.insert("protocol".to_owned(), run.protocol.as_str().to_owned());
    }
    if let Some(ask) = &release.shape.ask {
        all.insert("ask".to_owned(), ask.to_string());
    }
    if !release.shape.edge.is_silent() {
        let edge = serde_json::to_string(&release.shape.edge).unwrap_or_default();
        all.insert("edge".to_owned(), edge);
    }
    all
}

fn one(what: &'static str, from: Option<String>, to: Option<String>) -> Option<Difference> {
    let side = match (from, to) {
        (None, None) => return None,
        (Some(from), Some(to)) if from == to => return None,
        (Some(from), Some(to)) => Side::Changed(Some((from, to))),
        (None, Some(to)) => Side::Added(Some(to)),
        (Some(from), None) => Side::Removed(Some(from)),
    };
    Some(Difference { what, name: None, side })
}

fn each(
    what: &'static str,
    from: &BTreeMap<String, String>,
    to: &BTreeMap<String, String>,
) -> Vec<Difference> {
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    let differences = names.into_iter().filter_map(|name| {
        let difference = one(what, from.get(name).cloned(), to.get(name).cloned())?;
        Some(Difference { name: Some(name.clone()), ..difference })
    });
    differences.collect()
}

fn config_vars(from: &Release, to: &Release) -> Vec<Difference> {
    let names: BTreeSet<_> = from.config.keys().chain(to.config.keys()).collect();
    let differences = names.into_iter().filter_map(|name| {
        let side = match (from.config.get(name), to.config.get(name)) {
            (Some(from), Some(to)) if from == to => return None,
            (Some(_), Some(_)) => Side::Changed(None),
            (None, _) => Side::Added(None),
            (Some(_), None) => Side::Removed(None),
        };
        Some(Difference { what: "config var", name: Some(name.to_string()), side })
    });
    differences.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::app::Secret;
    use model::id::{AppId, ReleaseId};

    fn release() -> Release {
        Release {
            id: ReleaseId(uuid::Uuid::nil()),
            app: AppId(uuid::Uuid::nil()),
            version: 1,
            image: None,
            commit: Some("a".into()),
            config: BTreeMap::from([("KEY".parse().unwrap(), Secret::new("old"))]),
            shape: Default::default(),
            formation: BTreeMap::from([("web".parse().unwrap(), 1)]),
            domains: vec!["a.example".parse().unwrap()],
            description: String::new(),
            user: String::new(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_release_does_not_differ_from_itself() {
        assert_eq!(between(&release(), &release()), []);
    }

    #[test]
    fn differences_are_named_and_secrets_are_not_shown() {
        let mut to = release();
        to.commit = Some("b".into());
        to.config = BTreeMap::from([
            ("KEY".parse().unwrap(), Secret::new("new")),
            ("MORE".parse().unwrap(), Secret::new("x")),
        ]);
        to.formation.insert("web".parse().unwrap(), 3);
        to.domains.clear();
        to.shape.run.health_path = Some("/up".into());
        let lines: Vec<String> = between(&release(), &to)
            .into_iter()
            .map(|d| format!("{} {} {:?}", d.what, d.name.unwrap_or_default(), d.side))
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        commit  Changed(Some(("a", "b")))
        config var KEY Changed(None)
        config var MORE Added(None)
        replicas web Changed(Some(("1", "3")))
        domain a.example Removed(Some(""))
        setting health path Added(Some("/up"))
        "#);
    }
}
