//! Sets of field names, compared as upstreams such as CGI normalise them.

use super::fold;

/// A set of names that contains few of the fields of most requests.
#[derive(Debug)]
pub(crate) struct HeaderNameSet {
    names: Vec<Vec<u8>>,
    // Bit n is set if one of the names has n bytes: most lookups end here.
    lengths: u64,
}

impl HeaderNameSet {
    pub(crate) fn new<'n>(names: impl Iterator<Item = &'n str>) -> HeaderNameSet {
        let names: Vec<Vec<u8>> = names.map(|name| name.bytes().map(fold).collect()).collect();
        let lengths = names.iter().fold(0, |bits, name| bits | 1 << name.len().min(63));
        HeaderNameSet { names, lengths }
    }

    /// The names, in lower case.
    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.names.iter().map(Vec::as_slice)
    }

    /// Whether an upstream could take a field of that name for one of these.
    pub(crate) fn contains(&self, name: &[u8]) -> bool {
        let folds_to = |known: &Vec<u8>| {
            known.len() == name.len() && known.iter().zip(name).all(|(&known, &byte)| known == fold(byte))
        };
        self.lengths >> name.len().min(63) & 1 == 1 && self.names.iter().any(folds_to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_they_fold() {
        let long = "x-".to_owned() + &"a".repeat(80);
        let set = HeaderNameSet::new(["X-User", long.as_str()].into_iter());
        for (name, contained) in [
            ("x-user", true),
            ("X_USER", true),
            ("x.user", true),
            ("x-users", false),
            ("xuser", false),
            ("", false),
            (long.as_str(), true),
            (&long[..81], false),
        ] {
            assert_eq!(set.contains(name.as_bytes()), contained, "{name}");
        }
    }
}
