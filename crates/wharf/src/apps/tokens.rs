//! Who a token belongs to.

use model::problem::{Code, Problem};

use super::decide;
use crate::context::Context;
use crate::store::tokens;

/// Whose token it is, or P006.
pub async fn owner(context: &Context, token: &str) -> Result<String, Problem> {
    let token = token.to_owned();
    let owner = decide(context, move |tx| Ok(Ok(tokens::find(tx, &token)?))).await?;
    owner.map(|owner| owner.user).ok_or_else(|| refusal("the token given is not known here"))
}

/// What somebody without a good token is told.
pub fn refusal(why: &str) -> Problem {
    Problem::new(Code::TokenWrong, "this needs a token")
        .why(why)
        .next("on the machine itself: `wharf` as root needs none")
        .next("elsewhere: set WHARF_TOKEN to the token in the data directory's file `token`")
}
