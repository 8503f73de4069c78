//! What can go wrong where replicas run.

/// What can go wrong here.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    #[error("the release has no image")]
    NoImage,
    #[error("the image {0} is gone")]
    ImageGone(String),
    #[error(transparent)]
    Engine(#[from] engine::error::Error),
    #[error(transparent)]
    Image(#[from] engine::image::ImageError),
    #[error(transparent)]
    Volume(#[from] super::volumes::VolumeError),
    #[error("there are no user numbers for range {0} from `app_users_from` on")]
    NoUsers(u32),
    #[error("the work was cut off")]
    CutOff,
}

impl BackendError {
    /// The whole chain in one line: what a person needs to see why nothing started.
    pub fn for_people(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            let next = error.to_string();
            if !text.contains(&next) {
                text = format!("{text}: {next}");
            }
            source = error.source();
        }
        text
    }
}
