//! What holds of sessions as a whole: the stores' conformance suite and models of rotation, tabs and interleavings.

mod concurrent_refresh;
mod conformance;
mod interleaving_model;
mod rotation_model;
