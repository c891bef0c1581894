//! Parsing of stored password hashes: the formats of werkzeug, Django, passlib, htpasswd, crypt(5) and LDAP.
//! Nothing here computes a hash.

use std::num::NonZeroU32;

use argon2::{Algorithm, Params, Version};
use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};

use super::scheme::{Pbkdf2Digest, Prehash, RoundDigest, Salting, Scheme};
use super::{Check, HashCost, PasswordHashError};

/// The scheme, and the values to compare with.
pub(super) type Parsed = Result<(Scheme, Check), PasswordHashError>;

const MALFORMED: PasswordHashError = PasswordHashError::Malformed;
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

pub(super) fn parse(text: &str) -> Parsed {
    // What Django writes before hashes of other formats.
    for prefix in ["argon2", "bcrypt$"] {
        if let Some(inner) = text.strip_prefix(prefix).filter(|inner| inner.starts_with('$')) {
            return parse(inner);
        }
    }
    if let Some((scheme, inner)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) {
        return by_directories(scheme, inner);
    }
    if let Some(inner) = text.strip_prefix("bcrypt_sha256$") {
        return bcrypt(inner, Prehash::Sha256Hex);
    }
    let Some(modular) = text.strip_prefix('$') else { return by_frameworks(text) };
    match modular.split('$').next().unwrap_or_default() {
        "argon2id" | "argon2i" | "argon2d" => argon2(text),
        "2a" | "2b" | "2y" => bcrypt(text, Prehash::None),
        "bcrypt-sha256" => passlib_bcrypt(modular),
        "scrypt" => passlib_scrypt(modular),
        "pbkdf2" => passlib_pbkdf2(modular, Pbkdf2Digest::Sha1),
        "pbkdf2-sha256" => passlib_pbkdf2(modular, Pbkdf2Digest::Sha256),
        "pbkdf2-sha512" => passlib_pbkdf2(modular, Pbkdf2Digest::Sha512),
        "5" | "6" => sha_crypt(text, modular),
        "y" => yescrypt(text, modular),
        "1" => md5_crypt(modular, Scheme::Md5Crypt),
        "apr1" => md5_crypt(modular, Scheme::Apr1),
        _ => Err(PasswordHashError::Unknown),
    }
}

/// `{SCHEME}…` of OpenLDAP, Dovecot and htpasswd; schemes have no case.
fn by_directories(scheme: &str, inner: &str) -> Parsed {
    match scheme.to_ascii_uppercase().as_str() {
        "CRYPT" | "ARGON2" | "ARGON2I" | "ARGON2ID" | "BLF-CRYPT" | "SHA256-CRYPT" | "SHA512-CRYPT"
        | "MD5-CRYPT"
            if inner.starts_with('$') =>
        {
            parse(inner)
        }
        "PBKDF2" | "PBKDF2-SHA1" => directory_pbkdf2(inner, Pbkdf2Digest::Sha1),
        "PBKDF2-SHA256" => directory_pbkdf2(inner, Pbkdf2Digest::Sha256),
        "PBKDF2-SHA512" => directory_pbkdf2(inner, Pbkdf2Digest::Sha512),
        "SHA" => one_round(inner, RoundDigest::Sha1, Salting::None),
        "SHA256" => one_round(inner, RoundDigest::Sha256, Salting::None),
        "SHA512" => one_round(inner, RoundDigest::Sha512, Salting::None),
        "SSHA" => one_round(inner, RoundDigest::Sha1, Salting::Last),
        "SSHA256" => one_round(inner, RoundDigest::Sha256, Salting::Last),
        "SSHA512" => one_round(inner, RoundDigest::Sha512, Salting::Last),
        _ => Err(PasswordHashError::Unknown),
    }
}

/// werkzeug's `METHOD:…$SALT$HEX` and Django's `ALGORITHM$…`.
fn by_frameworks(text: &str) -> Parsed {
    let (head, rest) = text.split_once('$').ok_or(PasswordHashError::Unknown)?;
    let method: Vec<&str> = head.split(':').collect();
    match method[..] {
        ["scrypt"] => django_scrypt(rest),
        ["scrypt", n, r, p] => {
            let (salt, output) = salt_and_output(rest)?;
            scrypt(log2(n)?, number(r)?, number(p)?, salt.into(), hex(output)?)
        }
        ["pbkdf2", digest, rounds] => {
            let (salt, output) = salt_and_output(rest)?;
            pbkdf2(self::digest(digest)?, rounds, salt.into(), hex(output)?)
        }
        ["pbkdf2_sha256"] => django_pbkdf2(rest, Pbkdf2Digest::Sha256),
        ["pbkdf2_sha1"] => django_pbkdf2(rest, Pbkdf2Digest::Sha1),
        ["md5"] => keyed(rest, RoundDigest::Md5),
        ["sha1"] => keyed(rest, RoundDigest::Sha1),
        ["sha256"] => keyed(rest, RoundDigest::Sha256),
        ["sha512"] => keyed(rest, RoundDigest::Sha512),
        _ => Err(PasswordHashError::Unknown),
    }
}

fn argon2(text: &str) -> Parsed {
    let parsed = argon2::PasswordHash::new(text).map_err(|_| MALFORMED)?;
    let algorithm = Algorithm::try_from(parsed.algorithm.as_str()).map_err(|_| MALFORMED)?;
    // A missing version means 16, the first one.
    let version = parsed.version.map_or(Ok(Version::V0x10), Version::try_from).map_err(|_| MALFORMED)?;
    let params = Params::try_from(&parsed).map_err(|_| MALFORMED)?;
    let (Some(salt), Some(output)) = (parsed.salt, parsed.hash) else { return Err(MALFORMED) };
    if !params.keyid().is_empty() || !params.data().is_empty() {
        return Err(MALFORMED);
    }
    let cost = HashCost { memory_kib: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() };
    let check = Check::Derived { salt: salt.to_vec(), output: output.as_bytes().to_vec() };
    Ok((Scheme::Argon2 { algorithm, version, cost }, check))
}

fn bcrypt(text: &str, prehash: Prehash) -> Parsed {
    let parts: bcrypt::HashParts = text.parse().map_err(|_| MALFORMED)?;
    // Below 4 the algorithm is not defined.
    if parts.get_cost() < 4 {
        return Err(MALFORMED);
    }
    Ok((Scheme::Bcrypt { cost: parts.get_cost(), prehash }, Check::Crypt(text.to_owned())))
}

/// `bcrypt-sha256$v=2,t=2b,r=12$SALT$DIGEST`, or `bcrypt-sha256$2b,12$SALT$DIGEST` of the first version.
fn passlib_bcrypt(modular: &str) -> Parsed {
    let [_, params, salt, digest] = fields(modular)?;
    let params: Vec<&str> = params.split(',').collect();
    let (kind, cost, prehash) = match params[..] {
        ["v=2", kind, cost] => (
            kind.strip_prefix("t=").ok_or(MALFORMED)?,
            cost.strip_prefix("r=").ok_or(MALFORMED)?,
            Prehash::HmacSha256Base64,
        ),
        [kind, cost] => (kind, cost, Prehash::Sha256Base64),
        _ => return Err(MALFORMED),
    };
    bcrypt(&format!("${kind}${:02}${salt}{digest}", number(cost)?), prehash)
}

fn passlib_scrypt(modular: &str) -> Parsed {
    let [_, params, salt, output] = fields(modular)?;
    let params: Vec<&str> = params.split(',').collect();
    let [ln, r, p] = params[..] else { return Err(MALFORMED) };
    let param = |text: &str, name| number(text.strip_prefix(name).ok_or(MALFORMED)?);
    let log_n = u8::try_from(param(ln, "ln=")?).map_err(|_| MALFORMED)?;
    scrypt(log_n, param(r, "r=")?, param(p, "p=")?, base64(salt)?, base64(output)?)
}

/// `N$SALT$r$p$BASE64`
fn django_scrypt(rest: &str) -> Parsed {
    let [n, salt, r, p, output] = fields(rest)?;
    scrypt(log2(n)?, number(r)?, number(p)?, salt.into(), base64(output)?)
}

fn scrypt(log_n: u8, r: u32, p: u32, salt: Vec<u8>, output: Vec<u8>) -> Parsed {
    scrypt::Params::new(log_n, r, p).map_err(|_| MALFORMED)?;
    Ok((Scheme::Scrypt { log_n, r, p }, derived(salt, output)?))
}

fn passlib_pbkdf2(modular: &str, digest: Pbkdf2Digest) -> Parsed {
    directory_pbkdf2(modular.split_once('$').ok_or(MALFORMED)?.1, digest)
}

/// `ROUNDS$SALT$OUTPUT` in passlib's own base64 alphabet, which has a dot for the plus.
fn directory_pbkdf2(inner: &str, digest: Pbkdf2Digest) -> Parsed {
    let [rounds, salt, output] = fields(inner)?;
    pbkdf2(digest, rounds, base64(&salt.replace('.', "+"))?, base64(&output.replace('.', "+"))?)
}

/// `ROUNDS$SALT$BASE64`
fn django_pbkdf2(rest: &str, digest: Pbkdf2Digest) -> Parsed {
    let [rounds, salt, output] = fields(rest)?;
    pbkdf2(digest, rounds, salt.into(), base64(output)?)
}

fn pbkdf2(digest: Pbkdf2Digest, rounds: &str, salt: Vec<u8>, output: Vec<u8>) -> Parsed {
    let rounds = rounds.parse::<NonZeroU32>().map_err(|_| MALFORMED)?.get();
    // Programs make one block. More would cost more than the scheme says, to us and not to who guesses.
    if output.len() > digest.output_len() {
        return Err(MALFORMED);
    }
    Ok((Scheme::Pbkdf2 { digest, rounds }, derived(salt, output)?))
}

fn digest(name: &str) -> Result<Pbkdf2Digest, PasswordHashError> {
    match name {
        "sha1" => Ok(Pbkdf2Digest::Sha1),
        "sha256" => Ok(Pbkdf2Digest::Sha256),
        "sha384" => Ok(Pbkdf2Digest::Sha384),
        "sha512" => Ok(Pbkdf2Digest::Sha512),
        _ => Err(PasswordHashError::Unknown),
    }
}

/// `6$rounds=N$SALT$HASH` or `6$SALT$HASH`.
fn sha_crypt(text: &str, modular: &str) -> Parsed {
    let parts: Vec<&str> = modular.split('$').collect();
    let rounds = match parts[..] {
        [_, rounds, _, _] => number(rounds.strip_prefix("rounds=").ok_or(MALFORMED)?)?,
        [_, _, _] => sha_crypt::Params::RECOMMENDED_ROUNDS,
        _ => return Err(MALFORMED),
    };
    sha_crypt::Params::new(rounds).map_err(|_| MALFORMED)?;
    let (length, scheme) = match parts[0] {
        "5" => (43, Scheme::Sha256Crypt { rounds }),
        _ => (86, Scheme::Sha512Crypt { rounds }),
    };
    if parts.last().is_none_or(|output| output.len() != length) || !is_crypt(&parts[parts.len() - 2..]) {
        return Err(MALFORMED);
    }
    Ok((scheme, Check::Crypt(text.to_owned())))
}

fn yescrypt(text: &str, modular: &str) -> Parsed {
    let [_, params, salt, output] = fields(modular)?;
    let params: yescrypt::Params = params.parse().map_err(|_| MALFORMED)?;
    if output.len() != 43 || !is_crypt(&[salt, output]) || !params.n().is_power_of_two() {
        return Err(MALFORMED);
    }
    let log_n = params.n().trailing_zeros() as u8;
    Ok((Scheme::Yescrypt { log_n, r: params.r(), p: params.p() }, Check::Crypt(text.to_owned())))
}

fn md5_crypt(modular: &str, scheme: Scheme) -> Parsed {
    let [_, salt, output] = fields(modular)?;
    if output.len() != 22 || salt.len() > 8 || !is_crypt(&[output]) {
        return Err(MALFORMED);
    }
    Ok((scheme, derived(salt.into(), output.into())?))
}

/// Base64 of the output and the salt behind it.
fn one_round(encoded: &str, digest: RoundDigest, salting: Salting) -> Parsed {
    let mut output = base64(encoded)?;
    let length = digest.output_len();
    if output.len() < length || (salting == Salting::None && output.len() > length) {
        return Err(MALFORMED);
    }
    let salt = output.split_off(length);
    Ok((Scheme::OneRound { digest, salting }, derived(salt, output)?))
}

/// `SALT$HEX`
fn keyed(rest: &str, digest: RoundDigest) -> Parsed {
    let (salt, output) = salt_and_output(rest)?;
    let output = hex(output)?;
    if output.len() != digest.output_len() {
        return Err(MALFORMED);
    }
    Ok((Scheme::OneRound { digest, salting: Salting::Keyed }, derived(salt.into(), output)?))
}

fn derived(salt: Vec<u8>, output: Vec<u8>) -> Result<Check, PasswordHashError> {
    // Bounded as in RFC 7914 and RFC 8018, and short enough to keep the work small.
    if !(10..=256).contains(&output.len()) || salt.len() > 1024 {
        Err(MALFORMED)
    } else {
        Ok(Check::Derived { salt, output })
    }
}

fn is_crypt(fields: &[&str]) -> bool {
    let is_char = |byte: u8| byte.is_ascii_alphanumeric() || b"./".contains(&byte);
    fields.iter().all(|field| !field.is_empty() && field.bytes().all(is_char))
}

fn fields<const N: usize>(text: &str) -> Result<[&str; N], PasswordHashError> {
    text.split('$').collect::<Vec<_>>().try_into().map_err(|_| MALFORMED)
}

fn salt_and_output(rest: &str) -> Result<(&str, &str), PasswordHashError> {
    rest.split_once('$').filter(|(salt, _)| !salt.is_empty()).ok_or(MALFORMED)
}

fn number(text: &str) -> Result<u32, PasswordHashError> {
    text.parse().map_err(|_| MALFORMED)
}

fn log2(n: &str) -> Result<u8, PasswordHashError> {
    let n: u64 = n.parse().map_err(|_| MALFORMED)?;
    if n.is_power_of_two() && n > 1 { Ok(n.trailing_zeros() as u8) } else { Err(MALFORMED) }
}

fn base64(text: &str) -> Result<Vec<u8>, PasswordHashError> {
    BASE64.decode(text).map_err(|_| MALFORMED)
}

fn hex(text: &str) -> Result<Vec<u8>, PasswordHashError> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8).ok_or(MALFORMED);
    if !text.len().is_multiple_of(2) {
        return Err(MALFORMED);
    }
    text.as_bytes().chunks(2).map(|pair| Ok(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// A decoy hash of `scheme` that no password matches, and that takes as long as any other of the scheme.
pub(super) fn decoy(scheme: Scheme) -> String {
    let zeros = |bytes: usize| STANDARD.encode(vec![0; bytes]);
    let unpadded = |bytes: usize| zeros(bytes).trim_end_matches('=').to_owned();
    let dots = |count: usize| ".".repeat(count);
    match scheme {
        Scheme::Argon2 { algorithm, version, cost } => {
            let version = u32::from(version);
            format!("${algorithm}$v={version}${cost}${}${}", unpadded(16), unpadded(32))
        }
        Scheme::Bcrypt { cost, prehash } => match prehash {
            Prehash::None => format!("$2b${cost:02}${}", dots(53)),
            Prehash::Sha256Hex => format!("bcrypt_sha256$$2b${cost:02}${}", dots(53)),
            Prehash::Sha256Base64 => format!("$bcrypt-sha256$2b,{cost}${}${}", dots(22), dots(31)),
            Prehash::HmacSha256Base64 => {
                format!("$bcrypt-sha256$v=2,t=2b,r={cost}${}${}", dots(22), dots(31))
            }
        },
        Scheme::Scrypt { log_n, r, p } => {
            format!("$scrypt$ln={log_n},r={r},p={p}${}${}", unpadded(16), unpadded(64))
        }
        Scheme::Pbkdf2 { digest, rounds } => {
            let name = match digest {
                Pbkdf2Digest::Sha1 => "sha1",
                Pbkdf2Digest::Sha256 => "sha256",
                Pbkdf2Digest::Sha384 => "sha384",
                Pbkdf2Digest::Sha512 => "sha512",
            };
            format!("pbkdf2:{name}:{rounds}${}${}", dots(16), "00".repeat(digest.output_len()))
        }
        Scheme::Sha256Crypt { rounds } => format!("$5$rounds={rounds}${}${}", dots(16), dots(43)),
        Scheme::Sha512Crypt { rounds } => format!("$6$rounds={rounds}${}${}", dots(16), dots(86)),
        Scheme::Yescrypt { log_n, r, p } => {
            let params = yescrypt::Params::new(yescrypt::Mode::default(), 1 << log_n, r, p);
            let params = params.map_or_else(|_| "j9T".to_owned(), |params| params.to_string());
            format!("$y${params}${}${}", dots(22), dots(43))
        }
        Scheme::Md5Crypt => format!("$1${}${}", dots(8), dots(22)),
        Scheme::Apr1 => format!("$apr1${}${}", dots(8), dots(22)),
        Scheme::OneRound { digest, salting } => {
            let (upper, lower) = match digest {
                RoundDigest::Md5 => ("MD5", "md5"),
                RoundDigest::Sha1 => ("SHA", "sha1"),
                RoundDigest::Sha256 => ("SHA256", "sha256"),
                RoundDigest::Sha512 => ("SHA512", "sha512"),
            };
            match salting {
                Salting::None => format!("{{{upper}}}{}", zeros(digest.output_len())),
                Salting::Last => format!("{{S{upper}}}{}", zeros(digest.output_len() + 16)),
                Salting::Keyed => format!("{lower}${}${}", dots(16), "00".repeat(digest.output_len())),
            }
        }
    }
}
