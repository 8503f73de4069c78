//! `/wharf/disk`.

use axum::extract::{Extension, State};
use model::size::ByteSize;

use super::answer::{Answer, ok};
use crate::api::disk as api;
use crate::apps::status;
use crate::collect::{AppWeight, Scale};
use crate::context::Context;

pub(super) async fn show(
    State(context): State<Context>,
    Extension(scale): Extension<Scale>,
) -> Answer {
    let weighed = scale.weigh(&context).await?;
    let (free, size) = status::disk(&context);
    let (layers, surplus) = (weighed.layers, weighed.surplus);
    ok(&api::Disk {
        data_dir: context.config.data_dir.display().to_string(),
        size,
        free,
        used: ByteSize(weighed.parts.values().map(|size| size.bytes()).sum()),
        parts: weighed.parts,
        layers: api::Layers {
            count: layers.count,
            shared: layers.shared,
            single: layers.single,
            steps: layers.steps,
        },
        surplus: api::Surplus {
            images: surplus.images,
            layers: surplus.layers,
            layers_size: surplus.layers_size,
            caches_size: surplus.cached,
        },
        apps: weighed.apps.iter().map(app).collect(),
        at: weighed.at.into(),
        took_ms: u64::try_from(weighed.took.as_millis()).unwrap_or(u64::MAX),
    })
}

fn app(weight: &AppWeight) -> api::AppDisk {
    api::AppDisk {
        name: weight.app.name.clone(),
        own: weight.own(),
        images: weight.images,
        own_layers: weight.own_layers,
        shared_layers: weight.shared_layers,
        cache: weight.cache,
        git: weight.git,
        logs: weight.logs,
        written: weight.written,
    }
}
