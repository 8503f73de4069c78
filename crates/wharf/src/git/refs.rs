//! What a push wants of each ref, and what is to be done about it: a value.

use model::problem::{Code, Problem};
use serde::{Deserialize, Serialize};

/// The branches whose push deploys; the first of them wins when both are pushed at once.
pub const DEPLOY_BRANCHES: [&str; 2] = ["refs/heads/main", "refs/heads/master"];

/// One ref of a push: from where to where. All zeros is “not there”.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefUpdate {
    pub old: String,
    pub new: String,
    pub name: String,
}

/// What the pre-receive hook tells the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    pub refs: Vec<RefUpdate>,
    /// The quarantine the new objects are in, and where the others are.
    pub object_directory: Option<String>,
    pub alternates: Option<String>,
}

/// What follows from the refs of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The ref to deploy.
    pub deploy: Option<RefUpdate>,
    /// Said about the others.
    pub notes: Vec<String>,
}

impl RefUpdate {
    /// One line of a pre-receive hook's input.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (old, new, name) = (words.next()?, words.next()?, words.next()?);
        let is_id = |text: &str| {
            matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
        };
        (is_id(old) && is_id(new) && name.starts_with("refs/") && words.next().is_none())
            .then(|| Self { old: old.to_owned(), new: new.to_owned(), name: name.to_owned() })
    }

    fn is_deletion(&self) -> bool {
        is_nothing(&self.new)
    }

    /// `main`, `tag v1`, or the whole name.
    fn label(&self) -> String {
        match (self.name.strip_prefix("refs/heads/"), self.name.strip_prefix("refs/tags/")) {
            (Some(branch), _) => format!("branch `{branch}`"),
            (None, Some(tag)) => format!("tag `{tag}`"),
            (None, None) => format!("`{}`", self.name),
        }
    }
}

/// Whether an object id is the one that stands for nothing.
pub fn is_nothing(id: &str) -> bool {
    id.bytes().all(|byte| byte == b'0')
}

/// Decides what a push is for.
pub fn judge(refs: &[RefUpdate]) -> Result<Intent, Problem> {
    let is_deploy_branch = |update: &&RefUpdate| DEPLOY_BRANCHES.contains(&update.name.as_str());
    if let Some(update) = refs.iter().filter(is_deploy_branch).find(|update| update.is_deletion()) {
        return Err(Problem::new(
            Code::PushRejected,
            format!("{} was not deleted", update.label()),
        )
        .why("it is what is deployed")
        .still("the app serves on as before")
        .next("to take the app away: wharf destroy"));
    }
    let deploy =
        DEPLOY_BRANCHES.iter().find_map(|branch| refs.iter().find(|update| update.name == *branch));
    let others =
        refs.iter().filter(|update| deploy.is_none_or(|deploy| deploy.name != update.name));
    let notes = others
        .map(|update| match (update.is_deletion(), update.name.starts_with("refs/heads/")) {
            (true, _) => format!("{} is deleted", update.label()),
            (false, true) => {
                format!(
                    "{} is stored, not deployed: only `main` or `master` deploys",
                    update.label()
                )
            }
            (false, false) => format!("{} is stored", update.label()),
        })
        .collect();
    Ok(Intent { deploy: deploy.cloned(), notes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(name: &str, new: char) -> RefUpdate {
        let id = |c: char| c.to_string().repeat(40);
        RefUpdate { old: id('0'), new: id(new), name: name.to_owned() }
    }

    #[test]
    fn lines_of_the_hook_are_read_strictly() {
        let (a, b) = ("a".repeat(40), "0".repeat(40));
        assert_eq!(
            RefUpdate::parse(&format!("{b} {a} refs/heads/main\n")),
            Some(update("refs/heads/main", 'a'))
        );
        for bad in [
            format!("{b} {a}"),
            format!("{b} xyz refs/heads/a"),
            format!("{b} {a} HEAD"),
            String::new(),
        ] {
            assert_eq!(RefUpdate::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn only_the_deploy_branch_deploys_and_the_others_are_told() {
        let intent = judge(&[
            update("refs/heads/topic", 'a'),
            update("refs/heads/master", 'b'),
            update("refs/heads/main", 'c'),
            update("refs/tags/v1", 'd'),
            update("refs/heads/old", '0'),
        ])
        .unwrap();
        assert_eq!(intent.deploy, Some(update("refs/heads/main", 'c')));
        insta::assert_snapshot!(intent.notes.join("\n"), @r"
        branch `topic` is stored, not deployed: only `main` or `master` deploys
        branch `master` is stored, not deployed: only `main` or `master` deploys
        tag `v1` is stored
        branch `old` is deleted
        ");
    }

    #[test]
    fn the_deploy_branch_is_not_deleted() {
        let problem = judge(&[update("refs/heads/main", '0')]).unwrap_err();
        assert_eq!(problem.code, Code::PushRejected);
    }
}
