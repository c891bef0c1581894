//! Known attacks, replayed byte for byte. `cases.json` is a sample of a larger set: its format is described
//! beside the code that reads it.

mod case;
mod check;
mod expand;
mod forge;
mod keys;
mod over_http2;
mod run;

pub(crate) use keys::Key;
