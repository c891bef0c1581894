//! Cache of signed assertions for upstreams: of one token, or of requests without one.

use std::cell::RefCell;
use std::rc::Rc;

use http::Method;

use crate::tokens::UnixSeconds;

/// Entries of one token; the oldest is replaced.
const CAPACITY: usize = 16;

/// What an assertion is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AssertionScope<'a> {
    /// The index of the upstream in the configuration.
    pub(crate) upstream: usize,
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
}

/// Signed assertions, each with what it is for. Without assertions it takes no memory of its own.
#[derive(Debug, Default)]
pub(crate) struct AssertionCache(RefCell<Entries>);

#[derive(Debug, Default)]
struct Entries {
    entries: Vec<Entry>,
    next: usize,
}

#[derive(Debug)]
struct Entry {
    upstream: usize,
    method: Method,
    path: Box<str>,
    reusable_until: UnixSeconds,
    line: Rc<[u8]>,
}

impl Entry {
    fn is_for(&self, scope: AssertionScope<'_>) -> bool {
        self.upstream == scope.upstream && self.method == *scope.method && *self.path == *scope.path
    }
}

impl AssertionCache {
    /// The field line of an assertion that may be used again.
    pub(crate) fn get(&self, scope: AssertionScope<'_>, now: UnixSeconds) -> Option<Rc<[u8]>> {
        let cache = self.0.borrow();
        let known = cache.entries.iter().find(|entry| entry.is_for(scope))?;
        (now < known.reusable_until).then(|| Rc::clone(&known.line))
    }

    pub(crate) fn insert(&self, scope: AssertionScope<'_>, line: Rc<[u8]>, reusable_until: UnixSeconds) {
        let mut cache = self.0.borrow_mut();
        let entry = Entry {
            upstream: scope.upstream,
            method: scope.method.clone(),
            path: scope.path.into(),
            reusable_until,
            line,
        };
        if let Some(known) = cache.entries.iter_mut().find(|entry| entry.is_for(scope)) {
            *known = entry;
        } else if cache.entries.len() < CAPACITY {
            cache.entries.push(entry);
        } else {
            let place = cache.next;
            cache.entries[place] = entry;
            cache.next = (place + 1) % CAPACITY;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_assertion_is_used_again_for_the_same_upstream_method_and_path_and_for_a_while() {
        let cache = AssertionCache::default();
        let scope = |upstream, method, path| AssertionScope { upstream, method, path };
        let app = scope(0, &Method::GET, "/app");
        cache.insert(app, b"one".as_slice().into(), UnixSeconds::new(100));
        assert_eq!(&*cache.get(app, UnixSeconds::new(99)).unwrap(), b"one");
        assert!(cache.get(app, UnixSeconds::new(100)).is_none());
        for other in
            [scope(1, &Method::GET, "/app"), scope(0, &Method::PUT, "/app"), scope(0, &Method::GET, "/")]
        {
            assert!(cache.get(other, UnixSeconds::new(99)).is_none(), "{other:?}");
        }
        cache.insert(app, b"two".as_slice().into(), UnixSeconds::new(200));
        assert_eq!(&*cache.get(app, UnixSeconds::new(100)).unwrap(), b"two");
    }

    #[test]
    fn it_is_bounded_whatever_paths_are_asked_for() {
        let cache = AssertionCache::default();
        for number in 0..1000 {
            let path = number.to_string();
            let scope = AssertionScope { upstream: 0, method: &Method::GET, path: &path };
            cache.insert(scope, b"x".as_slice().into(), UnixSeconds::new(100));
            assert!(cache.get(scope, UnixSeconds::new(1)).is_some());
        }
        assert_eq!(cache.0.borrow().entries.len(), CAPACITY);
    }
}
