//! How worker processes come to be: a child of the front under its own uid, or, through a small root
//! service, one with the uid of a caller. What workers do is not known here.

mod child;

pub use child::{Child, Exit, environment, spawn, worker_arguments};
