//! The files and pages an app has at the edge: laid out for the proxy before the route names them, so
//! that a release's pages and files change with its route.
//!
//! What cannot be laid out costs the edge a file and nobody the app: those requests go to it.

use std::sync::Arc;

use model::release::{ImageRef, Release};
use model::route::edge::Edge;
use model::route::edge::files::{Files, Occasion};

use super::Keeper;
use super::goal::Loaded;
use crate::backend::local::Local;
use crate::backend::published::PublishError;

impl Keeper {
    /// What the edge does for the app while that release serves; all it names is there.
    pub(super) async fn furnished_edge(&self, release: u64, loaded: &Loaded) -> Edge {
        let mut edge = self.edge_as_it_lies(loaded, release);
        (edge.files, edge.pages) = Default::default();
        let served = loaded.release(release).filter(|one| has_shelf(one)).cloned();
        if let Some(served) = served {
            let backend = Arc::clone(&self.shared.backend);
            let laid = tokio::task::spawn_blocking(move || lay_out(&backend, &served)).await;
            (edge.files, edge.pages) = laid.unwrap_or_default();
        }
        if let Some(routed) = &self.routed {
            edge.files.iter_mut().for_each(|files| files.follow(&routed.edge.files));
        }
        self.lay_out_page(loaded).await;
        edge
    }

    /// The same with the files and pages that the route has now.
    pub(super) fn edge_as_it_lies(&self, loaded: &Loaded, release: u64) -> Edge {
        let published = &self.shared.backend.published;
        let page = loaded.maintenance_page.as_ref();
        let mut edge = loaded.edge(release);
        edge.maintenance_page = page.map(|page| published.page_place(page.as_bytes()));
        if let Some(routed) = &self.routed {
            edge.files.clone_from(&routed.edge.files);
            edge.pages.clone_from(&routed.edge.pages);
        }
        edge
    }

    /// Puts the page given with maintenance where the proxy finds it.
    pub(super) async fn lay_out_page(&self, loaded: &Loaded) {
        let Some(page) = loaded.maintenance_page.clone() else { return };
        let backend = Arc::clone(&self.shared.backend);
        let work = move || backend.published.page(page.as_bytes()).map(drop);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(work).await {
            complain(&error, "the maintenance page");
        }
    }
}

fn has_shelf(release: &Release) -> bool {
    !release.shape.edge.files.is_empty() || !release.shape.edge.pages.is_empty()
}

type Shelf = (Vec<Files>, model::route::edge::files::Pages);

fn lay_out(backend: &Local, release: &Release) -> Shelf {
    let Some(image) = &release.image else { return Shelf::default() };
    let files = release.shape.edge.files.iter().filter_map(|files| {
        let root = backend.published.folder(image, &files.folder);
        root.inspect_err(|error| complain(error, &files.folder)).ok().map(|root| files.settle(root))
    });
    let pages = release.shape.edge.pages.iter().filter_map(|(occasion, name)| {
        Some((*occasion, lay_out_one(backend, image, (*occasion, name))?))
    });
    (files.collect(), pages.collect())
}

fn lay_out_one(
    backend: &Local,
    image: &ImageRef,
    (occasion, name): (Occasion, &str),
) -> Option<std::path::PathBuf> {
    let published = &backend.published;
    let bytes = published.read_page(image, name).inspect_err(|error| complain(error, name)).ok()?;
    let Some(bytes) = bytes else {
        tracing::warn!(%occasion, name, "the image has no such page");
        return None;
    };
    published.page(&bytes).inspect_err(|error| complain(error, name)).ok()
}

fn complain(error: &PublishError, what: &str) {
    tracing::error!(error = error as &dyn std::error::Error, what, "not at the edge");
}
