//! `explain`: works without any daemon.

use model::problem::{Code, Problem};

use super::printer::Printer;
use crate::explain;

/// Say what an error code means, and what helps
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf explain P104\n  wharf explain H12\n  wharf explain     all codes"
)]
pub(super) struct ExplainArgs {
    code: Option<String>,
    /// For machines
    #[arg(long)]
    json: bool,
}

pub(super) fn explain(args: &ExplainArgs) -> Result<(), Problem> {
    let printer = Printer::new();
    let Some(code) = &args.code else {
        if args.json {
            let all = explain::PAGES.iter();
            printer.json(
                &all.map(|page| (page.code, page.title()))
                    .collect::<std::collections::BTreeMap<_, _>>(),
            );
        } else {
            explain::PAGES
                .iter()
                .for_each(|page| printer.data(format!("{}  {}", page.code, page.title())));
        }
        return Ok(());
    };
    let page = explain::find(code).ok_or_else(|| {
        Problem::new(Code::NotFound, format!("there is no code `{code}`"))
            .why("codes read like P104 (commands and deploys) or H12 (requests)")
            .next("all of them: wharf explain")
    })?;
    if args.json {
        let (code, title, text) = (page.code, page.title(), page.text);
        printer.json(&serde_json::json!({ "code": code, "title": title, "text": text }));
    } else {
        printer.data(page.text.trim_end());
    }
    Ok(())
}
