//! `[reload]`: when the configuration is read again.

use crate::config::declaration::{boolean, section};

section! {
    /// When the configuration is read again.
    #[derive(Copy)]
    pub struct Reload {
        /// Changed files are read again by themselves: these, and those that they name. SIGHUP has them read at once in any
        /// case.
        watch: bool = boolean().default("true");
    }
}
