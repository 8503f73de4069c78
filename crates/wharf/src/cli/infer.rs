//! Which app is meant when none is named: the one of the git remotes here. Reads git's configuration
//! and never changes it.

use model::problem::{Code, Problem};

use crate::client::Target;
use crate::process::Invocation;

/// A git remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) name: String,
    pub(super) url: String,
}

/// The remotes of the repository around us; none outside of one.
pub(super) async fn remotes() -> Option<Vec<Remote>> {
    Invocation::new("git").args(["rev-parse", "--git-dir"]).run().await.ok()?;
    // Fails when there is no remote at all, which is no error.
    let listed = Invocation::new("git").args(["config", "--get-regexp", r"^remote\..*\.url$"]);
    let text = listed.run().await.unwrap_or_default();
    Some(parse(&String::from_utf8_lossy(&text)))
}

fn parse(text: &str) -> Vec<Remote> {
    text.lines()
        .filter_map(|line| {
            let (key, url) = line.split_once(' ')?;
            let name = key.strip_prefix("remote.")?.strip_suffix(".url")?;
            Some(Remote { name: name.to_owned(), url: url.to_owned() })
        })
        .collect()
}

/// The app of the remote named `wharf`, wherever that leads.
pub(super) fn named_wharf(remotes: Option<&[Remote]>) -> Option<String> {
    let remote = remotes?.iter().find(|remote| remote.name == "wharf")?;
    app_of(&remote.url)
}

/// Decides which app is meant. `places` are the `host:port` where the API is.
pub(super) fn infer(remotes: Option<&[Remote]>, places: &[String]) -> Result<String, Problem> {
    let unknown = |why: &str| {
        Problem::new(Code::NoAppGiven, "no app was named and none could be inferred")
            .why(why)
            .next("name it: -a <app>, or set WHARF_APP")
            .next("list them: wharf apps")
    };
    let remotes = remotes.ok_or_else(|| unknown("this folder is in no git repository"))?;
    if let Some(app) = named_wharf(Some(remotes)) {
        return Ok(app);
    }
    let mut found: Vec<(&str, String)> = remotes
        .iter()
        .filter(|remote| is_at(&remote.url, places))
        .filter_map(|remote| Some((remote.name.as_str(), app_of(&remote.url)?)))
        .collect();
    found.sort();
    found.dedup_by(|a, b| a.1 == b.1);
    match found.as_slice() {
        [] => {
            Err(unknown("no git remote here leads to Wharf")
                .next("add one: wharf remote:add <app>"))
        }
        [(_, app)] => Ok(app.clone()),
        many => {
            let list: Vec<String> =
                many.iter().map(|(remote, app)| format!("`{app}` (remote {remote})")).collect();
            Err(unknown(&format!("several git remotes lead to Wharf: {}", list.join(", "))))
        }
    }
}

/// `shop` of `http://127.0.0.1:7070/shop.git`.
pub(super) fn app_of(url: &str) -> Option<String> {
    let last = url.trim_end_matches('/').rsplit(['/', ':']).next()?;
    let name = last.strip_suffix(".git").unwrap_or(last);
    name.parse::<model::name::AppName>().ok().map(String::from)
}

fn is_at(url: &str, places: &[String]) -> bool {
    authority(url).is_some_and(|authority| places.contains(&authority))
}

/// `host:port` of an address, as it is said there.
fn authority(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?.rsplit('@').next()?;
    Some(authority.to_owned())
}

/// Where the API at that target is for git: `host:port`, and `host` alone when a remote may say so.
pub(super) fn places(target: &Target) -> Vec<String> {
    match target {
        Target::Unix(_) => Vec::new(),
        Target::Http { host, port, .. } => vec![host.clone(), format!("{host}:{port}")],
    }
}

/// The same from the addresses the daemon of this machine gives its apps: the loopback names are one.
pub(super) fn places_of(git_urls: impl Iterator<Item = String>) -> Vec<String> {
    let mut places = Vec::new();
    for authority in git_urls.filter_map(|url| authority(&url)) {
        if let Some(port) = authority.strip_prefix("127.0.0.1:") {
            places.extend([format!("localhost:{port}"), format!("[::1]:{port}")]);
        }
        places.push(authority);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target::parse("http://paas.example:7070").unwrap()
    }

    fn check(config: &str) -> Result<String, String> {
        infer(Some(&parse(config)), &places(&target())).map_err(|problem| problem.to_string())
    }

    #[test]
    fn the_remote_named_wharf_wins() {
        let config = "remote.origin.url http://paas.example:7070/blog.git\n\
                      remote.wharf.url https://elsewhere.example/shop.git\n";
        assert_eq!(check(config).unwrap(), "shop");
    }

    #[test]
    fn any_remote_of_the_api_host_will_do() {
        let config = "remote.origin.url git@github.com:me/shop.git\n\
                      remote.staging.url http://x:y@paas.example:7070/shop-staging.git\n";
        assert_eq!(check(config).unwrap(), "shop-staging");
    }

    #[test]
    fn this_machines_daemon_is_where_its_apps_say() {
        let places = places_of(["http://127.0.0.1:8079/blog.git".to_owned()].into_iter());
        let config = "remote.prod.url http://me@localhost:8079/shop.git\n\
                      remote.other.url http://127.0.0.1:7070/blog.git\n";
        assert_eq!(infer(Some(&parse(config)), &places).unwrap(), "shop");
    }

    #[test]
    fn several_are_listed() {
        let config = "remote.staging.url http://paas.example:7070/shop-staging.git\n\
                      remote.prod.url http://paas.example:7070/shop.git\n";
        insta::assert_snapshot!(check(config).unwrap_err(), @r"
        error[P007]: no app was named and none could be inferred
          why:   several git remotes lead to Wharf: `shop` (remote prod), `shop-staging` (remote staging)
          next:  name it: -a <app>, or set WHARF_APP
                 list them: wharf apps
                 wharf explain P007
        ");
    }

    #[test]
    fn outside_of_a_repository_it_says_so() {
        let problem = infer(None, &places(&target())).unwrap_err();
        assert_eq!(problem.why.as_deref(), Some("this folder is in no git repository"));
        assert_eq!(check("").unwrap_err().lines().count(), 6);
    }
}
