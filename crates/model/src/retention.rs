//! Which images are kept: those that serve, are on their way, or may be gone back to.

use std::collections::BTreeSet;

use crate::release::ImageRef;

/// What is known of one app's releases that have an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AppImages {
    /// Version and image.
    pub releases: Vec<(u64, ImageRef)>,
    /// The version that serves.
    pub serving: Option<u64>,
    /// Versions whose deploy is not over, and those a replica still runs of.
    pub in_use: BTreeSet<u64>,
    /// Versions that were live at some time.
    pub was_live: BTreeSet<u64>,
}

/// The images of the newest so many releases, of what is in use, and of the release a rollback goes to:
/// the newest older one that was live with another image.
pub fn images_kept(app: &AppImages, newest: usize) -> BTreeSet<ImageRef> {
    let mut releases: Vec<&(u64, ImageRef)> = app.releases.iter().collect();
    releases.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    let serving = releases.iter().find(|(version, _)| Some(*version) == app.serving);
    let before = releases.iter().find(|(version, image)| {
        serving.is_some_and(|(current, of)| version < current && image != of)
            && app.was_live.contains(version)
    });
    let in_use = releases.iter().filter(|(version, _)| app.in_use.contains(version));
    let kept = releases.iter().take(newest).chain(serving).chain(before).chain(in_use);
    kept.map(|(_, image)| image.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(app: &AppImages, newest: usize) -> String {
        let kept = images_kept(app, newest);
        kept.iter().map(|image| image.0.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_serves_is_on_its_way_or_may_be_gone_back_to_is_kept() {
        let release = |(version, image): (u64, &str)| (version, ImageRef(image.to_owned()));
        let app = AppImages {
            // v4 and v5 only changed config vars, v6 never went live.
            releases: [(1, "a"), (2, "b"), (3, "c"), (4, "c"), (5, "c"), (6, "d"), (7, "e")]
                .map(release)
                .into(),
            serving: Some(5),
            in_use: BTreeSet::from([7]),
            was_live: BTreeSet::from([1, 2, 3, 4, 5]),
        };
        assert_eq!(kept(&app, 10), "a b c d e");
        assert_eq!(kept(&app, 2), "b c d e");
        assert_eq!(kept(&app, 0), "b c e");
        // After a rollback to v1's image: what was left is what one goes back to again.
        let back = AppImages {
            releases: [(1, "a"), (2, "b"), (3, "a")].map(release).into(),
            serving: Some(3),
            was_live: BTreeSet::from([1, 2, 3]),
            ..AppImages::default()
        };
        assert_eq!(kept(&back, 1), "a b");
        // One that never went live is not gone back to.
        let failed = AppImages { was_live: BTreeSet::from([1, 3]), ..back };
        assert_eq!(kept(&failed, 1), "a");
        assert_eq!(kept(&AppImages::default(), 10), "");
    }
}
