//! What the proxy counted, for whoever shows it.

use model::problem::{Code, Problem};
use proxy::control::Measures;

use crate::context::Context;

/// Everything the proxy counted since it began, or P703.
pub async fn measures(context: &Context) -> Result<Measures, Problem> {
    context.link.measures().await.map_err(|error| {
        Problem::new(Code::ProxyDown, "the proxy did not say what it counted")
            .why(error.to_string())
            .still("what it serves; counting goes on")
            .next("wharf status")
    })
}
