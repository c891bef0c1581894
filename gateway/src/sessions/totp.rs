//! Time-based one-time passwords (TOTP, RFC 6238): six digits of HMAC-SHA-1, a new one every 30 seconds, as all
//! authenticator apps know them.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use data_encoding::BASE32_NOPAD;

use super::UnixMillis;

/// The length of a secret, in bytes (RFC 4226 section 4 recommends 160 bits).
pub(super) const SECRET_LEN: usize = 20;
/// The time step, in seconds.
pub(super) const STEP_SECONDS: u64 = 30;
/// The number of digits.
const DIGITS: u32 = 6;
/// How many steps a code may be early or late.
const DRIFT: u64 = 1;

/// The step of a code that counts: one of now or a step around it, and later than `last`, the step of the last
/// code that was used. So no code counts twice.
pub(super) fn matching_step(secret: &[u8], code: &str, last: u64, now: UnixMillis) -> Option<u64> {
    let current = now.seconds().get() / STEP_SECONDS;
    let steps = current.saturating_sub(DRIFT)..=current + DRIFT;
    let mut found = None;
    for step in steps {
        let expected = code_at(secret, step, DIGITS);
        let is_equal = verify_slices_are_equal(expected.as_bytes(), code.as_bytes()).is_ok();
        if is_equal && step > last {
            found = Some(step);
        }
    }
    found
}

/// HOTP (RFC 4226 section 5.3) with the step as its counter.
fn code_at(secret: &[u8], step: u64, digits: u32) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let offset = usize::from(tag[tag.len() - 1] & 0xf);
    let truncated = tag[offset..offset + 4].iter().fold(0, |number, byte| (number << 8) | u32::from(*byte));
    let code = (truncated & 0x7fff_ffff) % 10_u32.pow(digits);
    format!("{code:0width$}", width = digits as usize)
}

/// Base32 without padding (RFC 4648 section 6), in which apps take secrets.
pub(super) fn base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"12345678901234567890";

    #[test]
    fn codes_are_those_of_rfc_6238() {
        // Appendix B, SHA-1.
        for (seconds, code) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ] {
            assert_eq!(code_at(SECRET, seconds / STEP_SECONDS, 8), code, "{seconds}");
            assert_eq!(code_at(SECRET, seconds / STEP_SECONDS, 6), code[2..], "{seconds}");
        }
    }

    #[test]
    fn counters_are_those_of_rfc_4226() {
        // Appendix D.
        let codes = [
            "755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871",
            "520489",
        ];
        for (counter, code) in codes.into_iter().enumerate() {
            assert_eq!(code_at(SECRET, counter as u64, 6), code);
        }
    }

    #[test]
    fn a_code_counts_one_step_early_or_late_and_never_twice() {
        let at = |step: u64| step * STEP_SECONDS * 1000;
        let code = |step| code_at(SECRET, step, DIGITS);
        for (of, now, last, found) in [
            (100, at(100), 0, Some(100)),
            (100, at(101) + 29_999, 0, Some(100)),
            (100, at(102), 0, None),
            (100, at(99), 0, Some(100)),
            (100, at(98) + 29_999, 0, None),
            (100, at(100), 100, None),
            (99, at(100), 100, None),
            (101, at(100), 100, Some(101)),
        ] {
            assert_eq!(
                matching_step(SECRET, &code(of), last, UnixMillis::new(now)),
                found,
                "{of} {now} {last}"
            );
        }
        for wrong in ["", "00000", "0000000", "٠٠٠٠٠٠"] {
            assert_eq!(matching_step(SECRET, wrong, 0, UnixMillis::new(at(100))), None, "{wrong}");
        }
    }

    #[test]
    fn base32_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
    }
}
