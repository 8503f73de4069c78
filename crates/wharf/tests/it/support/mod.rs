//! What the tests stand on: a whole Wharf of their own, repositories, and load.

pub(crate) mod api;

pub(crate) mod books;

pub(crate) mod host;

pub(crate) mod invariants;

pub(crate) mod load;

pub(crate) mod repo;

pub(crate) mod require;

pub(crate) mod warm;
