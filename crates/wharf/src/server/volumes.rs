//! `/wharf/apps/{app}/volumes`.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use futures_util::StreamExt;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use model::app::App;
use model::problem::{Code, Problem};
use model::volume::VolumeSpec;

use super::answer::{Answer, changed, json, ok, with_warning};
use super::auth::Caller;
use super::encode::app_ref;
use super::request::{Asked, Input};
use crate::api::volume::{
    NewVolume, RemoveVolume, RestoreVolume, Snapshot, Volume, VolumeMount, VolumeSource,
};
use crate::apps::volumes::{self, View, archives, snapshots};
use crate::context::Context;
use crate::deploy::release::Frozen;
use crate::store::snapshots::StoredSnapshot;

pub(super) async fn list(State(context): State<Context>, Path(key): Path<String>) -> Answer {
    let (app, views) = volumes::list(&context, &key).await?;
    ok(&views.iter().map(|view| encode(&app, view)).collect::<Vec<_>>())
}

pub(super) async fn show(
    State(context): State<Context>,
    Path((key, name)): Path<(String, String)>,
) -> Answer {
    let (app, view) = volumes::show(&context, &key, &name).await?;
    ok(&encode(&app, &view))
}

pub(super) async fn mount(
    State(context): State<Context>,
    caller: Caller,
    Path(key): Path<String>,
    Input(body): Input<NewVolume>,
) -> Answer {
    let name = body.name.clone();
    // Checked as the app file's are.
    let value = serde_json::to_value(body).and_then(serde_json::from_value::<VolumeSpec>);
    let spec = value.map_err(|error| {
        Problem::new(Code::BadInput, "that is no volume")
            .why(error.to_string())
            .still("nothing was changed")
            .next("wharf volumes:add data --at /data")
    })?;
    let (app, frozen) = volumes::mount(&context, &key, spec, &caller.user).await?;
    answer(&context, &app, &name, frozen, StatusCode::CREATED).await
}

pub(super) async fn detach(
    State(context): State<Context>,
    caller: Caller,
    Path((key, name)): Path<(String, String)>,
) -> Answer {
    let (app, frozen) = volumes::detach(&context, &key, &name, &caller.user).await?;
    answer(&context, &app, &name, frozen, StatusCode::OK).await
}

pub(super) async fn remove(
    State(context): State<Context>,
    caller: Caller,
    Path((key, name)): Path<(String, String)>,
    Asked(asked): Asked<RemoveVolume>,
) -> Answer {
    let (_, before) = volumes::show(&context, &key, &name).await?;
    let confirm = asked.confirm.as_deref();
    let (app, _) = volumes::remove(&context, &key, &name, confirm, &caller.user).await?;
    ok(&encode(&app, &before))
}

pub(super) async fn restore(
    State(context): State<Context>,
    caller: Caller,
    Path((key, name)): Path<(String, String)>,
    Input(body): Input<RestoreVolume>,
) -> Answer {
    let number = body.snapshot;
    let (app, frozen) = snapshots::restore(&context, &key, &name, number, &caller.user).await?;
    answer(&context, &app, &name, frozen, StatusCode::OK).await
}

pub(super) async fn list_snapshots(
    State(context): State<Context>,
    Path((key, name)): Path<(String, String)>,
) -> Answer {
    let kept = snapshots::list(&context, &key, &name).await?;
    let encode = |snapshot: &StoredSnapshot| encode_snapshot(&name, snapshot);
    ok(&kept.snapshots.iter().map(encode).collect::<Vec<_>>())
}

pub(super) async fn take(
    State(context): State<Context>,
    caller: Caller,
    Path((key, name)): Path<(String, String)>,
) -> Answer {
    let (_, _, snapshot) = snapshots::take(&context, &key, &name, &caller.user).await?;
    Ok(json(StatusCode::CREATED, &encode_snapshot(&name, &snapshot)))
}

pub(super) async fn remove_snapshot(
    State(context): State<Context>,
    caller: Caller,
    Path((key, name, number)): Path<(String, String, u64)>,
) -> Answer {
    let removed = snapshots::remove(&context, &key, &name, number, &caller.user).await?;
    ok(&encode_snapshot(&name, &removed.2))
}

pub(super) async fn export(
    State(context): State<Context>,
    Path((key, name, number)): Path<(String, String, u64)>,
) -> Answer {
    let pieces = archives::export(&context, &key, &name, number).await?;
    let stream = futures_util::stream::unfold(pieces, |mut pieces| async move {
        Some((pieces.recv().await?, pieces))
    });
    let mut response = Response::new(Body::from_stream(stream));
    let kind = HeaderValue::from_static("application/x-tar");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

pub(super) async fn import(
    State(context): State<Context>,
    caller: Caller,
    Path((key, name)): Path<(String, String)>,
    body: Body,
) -> Answer {
    let (sender, pieces) = archives::channel();
    context.tasks.spawn_until_stop("import", async move {
        let mut body = body.into_data_stream();
        while let Some(piece) = body.next().await {
            // Who reads it may have given up.
            if sender.send(piece.map_err(std::io::Error::other)).await.is_err() {
                return;
            }
        }
    });
    let (app, frozen) = archives::import(&context, &key, &name, pieces, &caller.user).await?;
    answer(&context, &app, &name, frozen, StatusCode::OK).await
}

/// The volume as it is after a change, and which release and deploy that made.
async fn answer(
    context: &Context,
    app: &App,
    name: &str,
    frozen: Option<Frozen>,
    status: StatusCode,
) -> Answer {
    let (_, view) = volumes::show(context, app.id.to_string().as_str(), name).await?;
    let response = json(status, &encode(app, &view));
    let response = changed(context, app.id, response, frozen.as_ref()).await?;
    let is_later = frozen.as_ref().is_some_and(|frozen| frozen.deploy.is_none());
    let later = "nothing of it runs yet: it holds from the first deploy on";
    Ok(with_warning(response, is_later.then_some(later)))
}

fn encode(app: &App, view: &View) -> Volume {
    let volume = &view.volume;
    let mount = view.spec.as_ref().map(|spec| VolumeMount {
        at: spec.at.to_string(),
        process: spec.writer().or(spec.process.clone()).map(|process| process.to_string()),
        single_writer: spec.single_writer,
        source: if view.is_of_the_app_file {
            VolumeSource::AppFile
        } else {
            VolumeSource::Settings
        },
    });
    Volume {
        id: volume.id.0,
        app: app_ref(app),
        name: volume.name.to_string(),
        mount,
        used_bytes: view.used.bytes(),
        limit_bytes: volume.size.map(model::size::ByteSize::bytes),
        snapshots: view.snapshots,
        created_at: volume.created_at.into(),
    }
}

fn encode_snapshot(name: &str, snapshot: &StoredSnapshot) -> Snapshot {
    Snapshot {
        id: snapshot.id.0,
        volume: name.to_owned(),
        number: snapshot.number,
        size_bytes: snapshot.size.bytes(),
        created_at: snapshot.created_at.into(),
    }
}
