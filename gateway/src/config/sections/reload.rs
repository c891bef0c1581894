//! `[reload]`: hot reload of the configuration.

use super::prelude::*;

section! {
    /// Hot reload of the configuration.
    #[derive(Copy)]
    pub struct Reload {
        /// Changed files are reloaded automatically: the configuration, and the files that it names. SIGHUP
        /// reloads them at once in any case.
        watch: bool = boolean().default("true");
    }
}
