//! Sets of field names, compared as upstreams such as CGI fold them.

use crate::http1::fold;

/// Names, of which most fields of most requests are none.
#[derive(Debug)]
pub(crate) struct FoldedNames {
    names: Vec<Vec<u8>>,
    // Bit n says that one of them has n bytes: most fields are passed with one test.
    lengths: u64,
}

impl FoldedNames {
    pub(crate) fn new<'n>(names: impl Iterator<Item = &'n str>) -> FoldedNames {
        let names: Vec<Vec<u8>> = names.map(|name| name.bytes().map(fold).collect()).collect();
        let lengths = names.iter().fold(0, |bits, name| bits | 1 << name.len().min(63));
        FoldedNames { names, lengths }
    }

    /// Whether some upstream could take a field of that name for one of these.
    pub(crate) fn contains(&self, name: &[u8]) -> bool {
        let folds_to = |known: &Vec<u8>| {
            known.len() == name.len() && known.iter().zip(name).all(|(&known, &byte)| known == fold(byte))
        };
        self.lengths >> name.len().min(63) & 1 == 1 && self.names.iter().any(folds_to)
    }
}
