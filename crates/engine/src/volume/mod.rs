//! What volumes need of the machine: a file system with a bound, and copies. Where they lie, and whose
//! they are, others know.

pub mod bounded;

pub mod copy;
