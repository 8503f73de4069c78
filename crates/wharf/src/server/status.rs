//! `/wharf/status`, `/wharf/explain/{code}`.

use axum::extract::{Path, State};
use model::problem::{Code, Problem};

use super::answer::{Answer, ok};
use super::router::Base;
use crate::api::status::{Explanation, ProxyStatus, Status};
use crate::apps::status;
use crate::config::Config;
use crate::context::Context;

pub(super) async fn show(State(context): State<Context>, base: Base) -> Answer {
    let proxy = status::proxy(&context).await;
    let views = status::list(&context, proxy.as_ref()).await?;
    let (disk_free, disk_size) = status::disk(&context);
    let config = &context.config;
    let wire = base.wire(config);
    ok(&Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: context.started_at.into(),
        data_dir: config.data_dir.display().to_string(),
        domain: config.domain.clone(),
        disk_free,
        disk_size,
        users_lack: context.backend.users_lack().map(str::to_owned),
        proxy: Some(proxy_status(config, proxy)),
        apps: views.iter().map(|view| wire.app_status(view)).collect(),
    })
}

fn proxy_status(config: &Config, status: Option<proxy::control::Status>) -> ProxyStatus {
    let text = |addresses: &[std::net::SocketAddr]| {
        let mut texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        // Every core listens for itself.
        texts.dedup();
        texts
    };
    match status {
        Some(status) => ProxyStatus {
            is_up: true,
            pid: Some(status.pid),
            holder_pid: status.holder_pid,
            started_at: Some(status.started_at.into()),
            listens: text(&status.listening),
            table_version: status.version,
            log_lines_lost: status.log_lines_lost,
        },
        None => ProxyStatus {
            is_up: false,
            pid: None,
            holder_pid: None,
            started_at: None,
            listens: text(&config.listen),
            table_version: 0,
            log_lines_lost: 0,
        },
    }
}

pub(super) async fn explain(Path(code): Path<String>) -> Answer {
    let code = Code::parse(&code).ok_or_else(|| {
        Problem::new(Code::NotFound, format!("there is no code `{code}`"))
            .why("codes read P and three digits, as in P104")
    })?;
    ok(&Explanation { code, title: code.title().to_owned() })
}
