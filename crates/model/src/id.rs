//! Ids: one newtype per noun, so that an app's id is never taken for a release's.
//!
//! They are UUIDs as in Heroku's Platform API. Drawing one is somebody else's job: `model` has no
//! random.

use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Ok(Self(text.parse()?))
            }
        }
    };
}

id!(
    /// An app, for life; its name may change.
    AppId
);
id!(
    /// One run of source → image.
    BuildId
);
id!(
    /// One frozen release.
    ReleaseId
);
id!(
    /// One act of making a release current.
    DeployId
);
id!(
    /// One running copy of a process type; also the engine's container id.
    ReplicaId
);
id!(
    /// A certificate of an app; a renewed one keeps it.
    CertificateId
);
id!(
    /// One try to get a certificate.
    OrderId
);
id!(
    /// A host name given to an app.
    DomainId
);
id!(
    /// A route given to an app.
    RouteId
);
id!(
    /// A volume of an app; also its folder on disk.
    VolumeId
);
id!(
    /// What a volume holds, from one restore to the next: a folder in the volume's.
    TreeId
);
id!(
    /// What a volume held at one moment, kept.
    SnapshotId
);
