//! `[reload]`: when the configuration is read again.

use crate::config::settings::Reload;
use crate::config::table::Table;

pub(super) fn reload(table: &mut Table<'_>) -> Reload {
    Reload { watch: table.take("watch").boolean().unwrap_or(true) }
}
