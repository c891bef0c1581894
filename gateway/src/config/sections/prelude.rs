//! What the files of the sections declare and check their keys with.

pub(super) use std::collections::BTreeMap;
pub(super) use std::path::PathBuf;
pub(super) use std::time::Duration;

pub(super) use serde::Deserialize;

pub(super) use super::files::{existing_file, existing_folder, file_name, key_file};
pub(super) use super::secret::{self, Secret, SecretSource, secret, secret_text};
pub(super) use super::{DAY, HOUR, MINUTE, YEAR, seconds, up_to};
pub(super) use crate::config::declaration::*;
pub(super) use crate::config::diagnostic::Diagnostic;
pub(super) use crate::config::did_you_mean::suggest;
pub(super) use crate::config::entry::{Entry, InvalidValue, accept, format_duration, quoted, refused};
pub(super) use crate::config::settings::*;
pub(super) use crate::config::table::Table;
