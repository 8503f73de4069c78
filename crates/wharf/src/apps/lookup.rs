//! From what a person typed to the thing meant, or to a helpful no.

use model::app::App;
use model::id::AppId;
use model::name::AppName;
use model::problem::{Code, Problem};

use super::{Decision, decide};
use crate::context::Context;
use crate::store::{StoreError, Tx, apps, events};

/// The app of that name or id.
pub async fn app(context: &Context, key: &str) -> Result<App, Problem> {
    let key = key.to_owned();
    decide(context, move |tx| find(tx, &key)).await
}

/// The same, inside a transaction. An app that is being destroyed is not there any more.
pub(crate) fn find(tx: &Tx<'_>, key: &str) -> Decision<App> {
    let found = match (key.parse::<AppId>(), key.parse::<AppName>()) {
        (Ok(id), _) => apps::find(tx, id)?,
        (Err(_), Ok(name)) => apps::find_by_name(tx, &name)?,
        (Err(_), Err(_)) => None,
    };
    if let Some(app) = found.filter(|app| !app.is_doomed) {
        return Ok(Ok(app));
    }
    if let Ok(name) = key.parse::<AppName>()
        && let Some(problem) = former(tx, &name)?
    {
        return Ok(Err(problem));
    }
    let names: Vec<String> = apps::list(tx)?.into_iter().map(|app| app.name.to_string()).collect();
    Ok(Err(unknown(key, &names)))
}

/// What became of the app that had the name last.
fn former(tx: &Tx<'_>, name: &AppName) -> Result<Option<Problem>, StoreError> {
    let Some((id, last)) = events::find_end_of_name(tx, name)? else { return Ok(None) };
    let day = last.at.strftime("%F %H:%M");
    let problem = Problem::new(Code::AppUnknown, format!("there is no app `{name}` any more"));
    if let Some(app) = apps::find(tx, id)?.filter(|app| !app.is_doomed) {
        let problem = problem
            .why(format!("it is called `{}` since {day}", app.name))
            .next(format!("name it so: -a {}", app.name))
            .next(format!("let the git remote follow: wharf remote:add {}", app.name));
        return Ok(Some(problem));
    }
    let who = last.user.map(|user| format!(" by {user}")).unwrap_or_default();
    Ok(Some(problem.why(format!("it was destroyed on {day}{who}")).next("wharf apps")))
}

fn unknown(key: &str, names: &[String]) -> Problem {
    let problem = Problem::new(Code::AppUnknown, format!("there is no app `{key}`"));
    match nearest(key, names) {
        Some(name) => problem
            .why(format!("the nearest name is `{name}`"))
            .next(format!("did you mean `{name}`? then: -a {name}")),
        None if names.is_empty() => problem.why("there are no apps yet").next("wharf create"),
        None => problem.next("wharf apps"),
    }
}

/// The known word a slip of the finger away from the given one, if there is one.
pub(super) fn nearest<'a>(given: &str, known: &'a [String]) -> Option<&'a str> {
    let limit = if given.len() < 4 { 1 } else { 2.max(given.len() / 4) };
    known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(given, word), word))
        .filter(|(distance, word)| {
            *distance <= limit || (given.len() > 2 && word.starts_with(given))
        })
        .min()
        .map(|(_, word)| word.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_word_meant() {
        let known = ["shop", "blog", "shop-staging"].map(str::to_owned);
        assert_eq!(nearest("shpo", &known), Some("shop"));
        assert_eq!(nearest("shop-stagng", &known), Some("shop-staging"));
        assert_eq!(nearest("database", &known), None);
    }

    #[test]
    fn an_unknown_app_is_answered_with_what_is_near() {
        let known = vec!["shop".to_owned()];
        insta::assert_snapshot!(unknown("shpo", &known), @r"
        error[P004]: there is no app `shpo`
          why:   the nearest name is `shop`
          next:  did you mean `shop`? then: -a shop
                 wharf explain P004
        ");
        insta::assert_snapshot!(unknown("shop", &[]), @r"
        error[P004]: there is no app `shop`
          why:   there are no apps yet
          next:  wharf create
                 wharf explain P004
        ");
    }
}
