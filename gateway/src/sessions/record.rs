//! Records as bytes, and the one loop that changes them: read, decide, swap, and again if another was faster.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::UnixMillis;
use super::store::{Key, Put, PutOutcome, Store, StoreError};

/// More rounds than instances could ever keep each other busy with; ends a loop that a broken store would never end.
const MAX_ROUNDS: usize = 1000;

/// What a decision writes.
#[derive(Debug)]
pub(super) struct Change<T> {
    pub(super) record: T,
    pub(super) expires_at: UnixMillis,
    pub(super) group: Option<String>,
}

/// Reads a record, lets `decide` look at it and swaps in what it gives. Where another was faster, it decides anew on
/// what that one left: a decision is always about the state it changes.
pub(super) async fn update<T: Serialize + DeserializeOwned, R>(
    store: &dyn Store,
    key: &Key,
    mut decide: impl FnMut(Option<T>) -> (Option<Change<T>>, R),
) -> Result<R, StoreError> {
    for _ in 0..MAX_ROUNDS {
        let current = store.get(key).await?;
        let (expected, record) = match current {
            Some(found) => (Some(found.version), Some(decode(key, &found.value)?)),
            None => (None, None),
        };
        let (change, result) = decide(record);
        let Some(Change { record, expires_at, group }) = change else { return Ok(result) };
        let value = serde_json::to_vec(&record).map_err(|e| StoreError::Corrupt(format!("{key}: {e}")))?;
        let put = Put { key: key.clone(), expected, value, expires_at, group };
        if store.put_if(put).await? == PutOutcome::Stored {
            return Ok(result);
        }
    }
    Err(StoreError::Unavailable(format!("{key} does not come to rest")))
}

/// Reads a record's bytes.
pub(super) fn decode<T: DeserializeOwned>(key: &Key, value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|e| StoreError::Corrupt(format!("{key}: {e}")))
}
