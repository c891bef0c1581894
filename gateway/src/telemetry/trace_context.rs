//! W3C trace context (<https://www.w3.org/TR/trace-context/>): reading, continuing and writing `traceparent` and
//! `tracestate`.

use std::cell::Cell;

use aws_lc_rs::rand;

/// The trace that a request belongs to, and the spans in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TraceContext {
    pub(crate) ids: TraceIds,
    /// The span of the caller, where its trace is continued.
    pub(crate) parent_id: Option<u64>,
    /// The span of the request to the upstream.
    pub(crate) upstream_span_id: u64,
    pub(crate) sampled: bool,
    /// The caller's `tracestate`; empty if there is none.
    pub(crate) state: String,
}

/// What log lines have of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceIds {
    pub(crate) trace_id: u128,
    /// The span of the request.
    pub(crate) span_id: u64,
}

impl TraceIds {
    /// 32 hexadecimal digits.
    pub(crate) fn trace_id_text(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// 16 hexadecimal digits.
    pub(crate) fn span_id_text(&self) -> String {
        format!("{:016x}", self.span_id)
    }
}

/// How traces are begun and continued.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TracePolicy {
    /// Whether a request without a usable `traceparent` begins a trace.
    pub(crate) generate: bool,
    /// The share of new traces that are sampled, of `u64::MAX`.
    pub(crate) sample: u64,
    /// Whether spans are exported: only then is a span of the gateway a parent that others can find.
    pub(crate) exports: bool,
}

impl TraceContext {
    /// The trace of a request with these fields, all of those of that name; none where it has none and none is to be
    /// generated.
    pub(crate) fn of<'h>(
        mut traceparents: impl Iterator<Item = &'h [u8]>,
        tracestates: impl Iterator<Item = &'h [u8]>,
        policy: TracePolicy,
    ) -> Option<TraceContext> {
        // Several of them are none.
        let (first, second) = (traceparents.next(), traceparents.next());
        let parent = first.filter(|_| second.is_none()).and_then(Parent::parse);
        if parent.is_none() && !policy.generate {
            return None;
        }
        let mut random = [0; 32];
        if parent.is_none() || policy.exports {
            // Without random bytes there is no unique id.
            rand::fill(&mut random).ok()?;
        }
        let id = |at: usize| non_zero(u64::from_be_bytes(random[at..at + 8].try_into().unwrap_or([1; 8])));
        match parent {
            Some(Parent { trace_id, span_id: parent_id, sampled }) => {
                let (own, upstream) = if policy.exports { (id(0), id(8)) } else { (parent_id, parent_id) };
                Some(TraceContext {
                    ids: TraceIds { trace_id, span_id: own },
                    parent_id: Some(parent_id),
                    upstream_span_id: upstream,
                    sampled,
                    state: join_states(tracestates),
                })
            }
            None => {
                let trace_id = u128::from(id(16)) << 64 | u128::from(id(24));
                let own = id(0);
                Some(TraceContext {
                    ids: TraceIds { trace_id, span_id: own },
                    parent_id: None,
                    upstream_span_id: if policy.exports { id(8) } else { own },
                    // The low half of the id is as random as another number.
                    sampled: policy.sample == u64::MAX || (trace_id as u64) < policy.sample,
                    state: String::new(),
                })
            }
        }
    }

    /// The `traceparent` for the upstream.
    pub(crate) fn traceparent(&self) -> String {
        let flags = u8::from(self.sampled);
        format!("00-{:032x}-{:016x}-{flags:02x}", self.ids.trace_id, self.upstream_span_id)
    }

    /// Makes this the trace of what this thread logs, until the guard is dropped.
    pub(crate) fn enter(&self) -> CurrentTrace {
        CURRENT.set(Some(self.ids));
        CurrentTrace(())
    }
}

/// Zero is no id.
fn non_zero(id: u64) -> u64 {
    id.max(1)
}

thread_local! {
    static CURRENT: Cell<Option<TraceIds>> = const { Cell::new(None) };
}

/// The trace of the request that this thread works on.
pub(super) fn current() -> Option<TraceIds> {
    CURRENT.get()
}

/// See [`TraceContext::enter`].
#[derive(Debug)]
pub(crate) struct CurrentTrace(());

impl Drop for CurrentTrace {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

/// A valid `traceparent`.
#[derive(Debug, PartialEq, Eq)]
struct Parent {
    trace_id: u128,
    span_id: u64,
    sampled: bool,
}

impl Parent {
    /// Version 00, or what a later version has in common with it.
    fn parse(value: &[u8]) -> Option<Parent> {
        let is_hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let number = |from: usize, len: usize| {
            let part = value.get(from..from + len).filter(|part| is_hex(part))?;
            u128::from_str_radix(std::str::from_utf8(part).ok()?, 16).ok()
        };
        let (version, trace_id, span_id, flags) =
            (number(0, 2)?, number(3, 32)?, number(36, 16)?, number(53, 2)?);
        let dashes = [2, 35, 52].iter().all(|&at| value[at] == b'-');
        let fits = match version {
            0 => value.len() == 55,
            0xff => false,
            _ => value.len() == 55 || value[55] == b'-',
        };
        let valid = dashes && fits && trace_id != 0 && span_id != 0;
        valid.then_some(Parent { trace_id, span_id: span_id as u64, sampled: flags & 1 == 1 })
    }
}

/// Limits of the specification: members, and of a list of them in bytes, which is more than has to be passed on.
const MAX_MEMBERS: usize = 32;
const MAX_STATE_LEN: usize = 4096;

/// One list of all members, or nothing where a member is invalid: then none of them counts.
fn join_states<'h>(fields: impl Iterator<Item = &'h [u8]>) -> String {
    let mut keys: Vec<&[u8]> = Vec::new();
    let mut joined = String::new();
    for member in fields.flat_map(|field| field.split(|&b| b == b',')).map(<[u8]>::trim_ascii) {
        if member.is_empty() {
            continue;
        }
        let Some(equals) = member.iter().position(|&b| b == b'=') else { return String::new() };
        let (key, value) = (&member[..equals], &member[equals + 1..]);
        let known = keys.contains(&key);
        keys.push(key);
        if !is_state_key(key) || !is_state_value(value) || known || keys.len() > MAX_MEMBERS {
            return String::new();
        }
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(&String::from_utf8_lossy(member));
    }
    if joined.len() > MAX_STATE_LEN { String::new() } else { joined }
}

/// `simple-key` or `tenant@system`.
fn is_state_key(key: &[u8]) -> bool {
    let is_part = |part: &[u8], longest: usize| {
        let tail = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-*/".contains(b);
        !part.is_empty() && part.len() <= longest && part.iter().all(tail)
    };
    match key.iter().position(|&b| b == b'@') {
        None => is_part(key, 256) && key[0].is_ascii_lowercase(),
        Some(at) => {
            let (tenant, system) = (&key[..at], &key[at + 1..]);
            let begins = |part: &[u8], digit: bool| {
                part.first().is_some_and(|b| b.is_ascii_lowercase() || digit && b.is_ascii_digit())
            };
            is_part(tenant, 241) && begins(tenant, true) && is_part(system, 14) && begins(system, false)
        }
    }
}

fn is_state_value(value: &[u8]) -> bool {
    let is_char = |b: &u8| matches!(b, b' '..=b'~') && !b",=".contains(b);
    (1..=256).contains(&value.len()) && value.iter().all(is_char) && value.last() != Some(&b' ')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PARENT: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const ALL: TracePolicy = TracePolicy { generate: true, sample: u64::MAX, exports: true };

    fn context(parents: &[&[u8]], states: &[&[u8]], policy: TracePolicy) -> Option<TraceContext> {
        TraceContext::of(parents.iter().copied(), states.iter().copied(), policy)
    }

    #[test]
    fn only_a_traceparent_of_the_specification_is_read() {
        let trace_id = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
        let parent = |sampled| Some(Parent { trace_id, span_id: 0x00f0_67aa_0ba9_02b7, sampled });
        let hex = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
        for (text, expected) in [
            (format!("00-{hex}-01"), parent(true)),
            (format!("00-{hex}-00"), parent(false)),
            (format!("00-{hex}-fe"), parent(false)),
            (format!("00-{hex}-03"), parent(true)),
            (format!("cc-{hex}-01"), parent(true)),
            (format!("cc-{hex}-01-what-the-future-brings"), parent(true)),
            (format!("cc-{hex}-01x"), None),
            (format!("00-{hex}-01-more"), None),
            (format!("ff-{hex}-01"), None),
            (format!("00-{hex}-0"), None),
            (format!("00-{hex}-0g"), None),
            (format!("00-{}-01", hex.to_uppercase()), None),
            (format!("00_{hex}_01"), None),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), None),
            (format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", "0".repeat(16)), None),
            (format!(" 00-{hex}-01"), None),
            (format!("00-+{}-01", &hex[1..]), None),
            (String::new(), None),
        ] {
            assert_eq!(Parent::parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_trace_is_continued_with_spans_of_the_gateway_where_they_can_be_found() {
        let exported = context(&[PARENT], &[b"a=1", b" b=2 ,c=3"], ALL).unwrap();
        assert_eq!(exported.ids.trace_id_text(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((exported.parent_id, exported.sampled), (Some(0x00f0_67aa_0ba9_02b7), true));
        let ids = [exported.ids.span_id, exported.upstream_span_id, 0x00f0_67aa_0ba9_02b7, 0];
        assert!((0..4).all(|one| (0..one).all(|other| ids[one] != ids[other])), "{ids:?}");
        assert_eq!(exported.state, "a=1,b=2,c=3");
        let sent = exported.traceparent();
        assert_eq!(Parent::parse(sent.as_bytes()).unwrap().span_id, exported.upstream_span_id);

        let unexported = context(&[PARENT], &[], TracePolicy { exports: false, ..ALL }).unwrap();
        assert_eq!(unexported.traceparent().as_bytes(), PARENT, "passed on as it came");
        let unsampled = [&PARENT[..53], b"00"].concat();
        assert!(!context(&[&unsampled], &[], ALL).unwrap().sampled, "the caller decides");
    }

    #[test]
    fn without_a_usable_parent_a_trace_begins_or_there_is_none() {
        let none: &[&[&[u8]]] = &[&[], &[b"rubbish"], &[PARENT, PARENT]];
        for parents in none {
            let begun = context(parents, &[b"a=1"], ALL).unwrap();
            assert_eq!((begun.parent_id, begun.state.as_str(), begun.sampled), (None, "", true));
            assert!(Parent::parse(begun.traceparent().as_bytes()).is_some());
            assert_eq!(context(parents, &[], TracePolicy { generate: false, ..ALL }), None);
        }
        assert_ne!(context(&[], &[], ALL).unwrap().ids, context(&[], &[], ALL).unwrap().ids);
    }

    #[test]
    fn the_share_of_sampled_traces_is_that_of_the_policy() {
        let sampled = |sample| {
            let policy = TracePolicy { sample, ..ALL };
            (0..2000).filter(|_| context(&[], &[], policy).unwrap().sampled).count()
        };
        assert_eq!((sampled(0), sampled(u64::MAX)), (0, 2000));
        let quarter = sampled(u64::MAX / 4);
        assert!((350..650).contains(&quarter), "{quarter}");
    }

    #[test]
    fn a_tracestate_is_passed_on_whole_or_not_at_all() {
        let long = format!("a={}", "x".repeat(257));
        let many = (0..33).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
        for (state, expected) in [
            ("a=1", "a=1"),
            ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
            ("fw529a3039@dt=x y", "fw529a3039@dt=x y"),
            ("a=1,,b=2", "a=1,b=2"),
            ("a=1,a=2", ""),
            ("A=1", ""),
            ("1a=1", ""),
            ("a", ""),
            ("a=", ""),
            ("a=1=2", ""),
            ("a=\u{e9}", ""),
            ("a@b@c=1", ""),
            (&long, ""),
            (&many, ""),
            ("", ""),
        ] {
            assert_eq!(join_states([state.as_bytes()].into_iter()), expected, "{state}");
        }
    }

    #[test]
    fn the_trace_of_a_thread_ends_with_its_guard() {
        let context = context(&[PARENT], &[], ALL).unwrap();
        {
            let _guard = context.enter();
            assert_eq!(current(), Some(context.ids));
        }
        assert_eq!(current(), None);
    }
}
