//! Forged tokens: a recipe starts from a real access token, changes its parts and signs again.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::expand::Values;
use super::keys::{Key, hmac_sha256};

/// What a forger has at hand.
pub(super) struct Forge<'f> {
    pub(super) key: &'f Key,
    pub(super) attacker: &'f Key,
    /// A real access token.
    pub(super) access: &'f str,
    pub(super) values: &'f Values,
}

/// Why a recipe cannot be followed with these keys.
pub(super) type Skip = String;

type Recipe = Map<String, Value>;

impl Forge<'_> {
    /// The tokens of a recipe; some recipes have variants.
    pub(super) fn tokens(&self, recipe: &Recipe) -> Result<Vec<String>, Skip> {
        if let Some(literal) = text(recipe, "literal") {
            return Ok(vec![self.values.expand(literal)]);
        }
        if let Some(Value::Object(parameters)) = recipe.get("jwe") {
            return Ok(vec![jwe(parameters)]);
        }
        let known = [
            "base",
            "header_patch",
            "header_raw",
            "header_utf16",
            "header_nest",
            "header_bom",
            "payload_patch",
            "payload_raw",
            "payload_patch_raw",
            "payload_nest",
            "payload_hex",
            "sign",
            "mutate",
        ];
        if let Some(unknown) = recipe.keys().find(|k| !known.contains(&k.as_str())) {
            panic!("the recipe says {unknown:?}, which is not supported here");
        }
        let base: Vec<&str> = self.access.split('.').collect();
        let header = self.header(recipe, base[0]);
        let payload = self.payload(recipe, base[1]);
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(&header), URL_SAFE_NO_PAD.encode(&payload));
        let signatures =
            self.signatures(text(recipe, "sign").unwrap_or("valid"), &header, &payload, &message, base[2])?;
        let mutations = recipe.get("mutate").and_then(Value::as_array).cloned().unwrap_or_default();
        let mutate =
            |token: String| mutations.iter().fold(token, |token, m| mutated(token, m.as_str().unwrap()));
        Ok(signatures.into_iter().map(|signature| mutate(format!("{message}.{signature}"))).collect())
    }

    fn header(&self, recipe: &Recipe, base: &str) -> Vec<u8> {
        if let Some(raw) = text(recipe, "header_raw") {
            return self.values.expand(raw).into_bytes();
        }
        let mut header = decoded(base);
        self.patch(&mut header, recipe.get("header_patch"));
        nest(&mut header, recipe.get("header_nest"));
        let bytes = serde_json::to_vec(&header).unwrap();
        if recipe.contains_key("header_utf16") {
            return String::from_utf8(bytes).unwrap().encode_utf16().flat_map(u16::to_le_bytes).collect();
        }
        if recipe.contains_key("header_bom") {
            return [b"\xef\xbb\xbf", bytes.as_slice()].concat();
        }
        bytes
    }

    fn payload(&self, recipe: &Recipe, base: &str) -> Vec<u8> {
        if let Some(raw) = text(recipe, "payload_raw") {
            return self.values.expand(raw).into_bytes();
        }
        if let Some(hex) = text(recipe, "payload_hex") {
            return (0..hex.len())
                .step_by(2)
                .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
                .collect();
        }
        let mut payload = decoded(base);
        self.patch(&mut payload, recipe.get("payload_patch"));
        nest(&mut payload, recipe.get("payload_nest"));
        let Some(raw) = text(recipe, "payload_patch_raw") else {
            return serde_json::to_vec(&payload).unwrap();
        };
        // Raw member text takes the place of the member of its name: so a number can be one that JSON libraries never write.
        let raw = self.values.expand(raw);
        let name = raw.split('"').nth(1).unwrap();
        payload.remove(name);
        let rest = serde_json::to_string(&payload).unwrap();
        format!("{},{raw}}}", &rest[..rest.len() - 1]).into_bytes()
    }

    fn patch(&self, object: &mut Recipe, patch: Option<&Value>) {
        let Some(Value::Object(patch)) = patch else { return };
        for (name, value) in patch {
            match value {
                Value::String(delete) if delete == "__delete__" => drop(object.remove(name)),
                value => drop(object.insert(name.clone(), self.filled_in(value))),
            }
        }
    }

    fn filled_in(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => {
                let filled = self.values.expand(text);
                // A placeholder for JSON stands where JSON belongs.
                let is_json = text.starts_with("{{LIST")
                    || text.starts_with("{{JSONKEYS")
                    || text.starts_with("{{ATTACKER_JWK");
                if is_json { serde_json::from_str(&filled).unwrap() } else { Value::String(filled) }
            }
            Value::Array(elements) => elements.iter().map(|e| self.filled_in(e)).collect(),
            other => other.clone(),
        }
    }

    fn signatures(
        &self,
        sign: &str,
        header: &[u8],
        payload: &[u8],
        message: &str,
        original: &str,
    ) -> Result<Vec<String>, Skip> {
        let (word, argument) = sign.split_once(':').unwrap_or((sign, ""));
        let own = self.key.algorithm;
        let valid = || self.key.sign(own, message.as_bytes()).unwrap();
        let only = |algorithm: &str| match own == algorithm {
            true => Ok(()),
            false => Err(format!("it is about {algorithm}")),
        };
        let variants = || argument.split('|');
        let raw: Vec<Vec<u8>> = match word {
            "none" => return Ok(vec![String::new()]),
            "keep" => return Ok(vec![original.to_owned()]),
            "valid" => vec![valid()],
            "attacker" => vec![self.attacker.sign(own, message.as_bytes()).unwrap()],
            "retired_key" | "previous_key" => {
                return Err(
                    "the operator's own key file holds one key; rotation is tested with kept keys".into()
                );
            }
            "valid_as" => match self.key.sign(argument, message.as_bytes()) {
                Some(signature) => vec![signature],
                None => return Err(format!("the key cannot sign {argument}")),
            },
            "hs256" => {
                let secrets: Option<Vec<_>> =
                    sign.split('|').map(|v| self.secret(v.trim_start_matches("hs256:"))).collect();
                let secrets = secrets.ok_or("it takes a public key")?;
                secrets.iter().map(|secret| hmac_sha256(secret, message.as_bytes())).collect()
            }
            "zeros" => vec![vec![0; argument.parse().unwrap()]],
            "ecdsa_rs" => {
                only("ES256")?;
                let number = |text: &str| {
                    let mut bytes = [0; 32];
                    bytes[31] = text.parse().unwrap();
                    bytes
                };
                variants().map(|pair| pair.split(',').flat_map(number).collect()).collect()
            }
            "valid_der" => {
                only("ES256")?;
                vec![self.key.sign_der(message.as_bytes())]
            }
            "valid_pad66" => {
                only("ES256")?;
                let (r, s) = {
                    let v = valid();
                    (v[..32].to_vec(), v[32..].to_vec())
                };
                vec![[vec![0; 34], r, vec![0; 34], s].concat()]
            }
            "valid_malleate" => {
                only("ES256")?;
                let signature = valid();
                let order = hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
                vec![[signature[..32].to_vec(), difference(&order, &signature[32..])].concat()]
            }
            "valid_s_plus_l" => {
                only("EdDSA")?;
                let signature = valid();
                let order = hex("1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3ed");
                vec![[signature[..32].to_vec(), sum_little_endian(&signature[32..], &order)].concat()]
            }
            "valid_b64false" => {
                let unencoded = [URL_SAFE_NO_PAD.encode(header).as_bytes(), b".", payload].concat();
                vec![self.key.sign(own, &unencoded).unwrap()]
            }
            other => panic!("the recipe signs by {other:?}, which is not supported here"),
        };
        Ok(raw.into_iter().map(|signature| URL_SAFE_NO_PAD.encode(signature)).collect())
    }

    /// The text or key that a naive library might have taken for the secret.
    fn secret(&self, name: &str) -> Option<Vec<u8>> {
        match name {
            "empty" => Some(Vec::new()),
            name if name.starts_with("public_") => self.key.public_form(name),
            text => Some(text.replace("\\n", "\n").into_bytes()),
        }
    }
}

fn text<'r>(recipe: &'r Recipe, name: &str) -> Option<&'r str> {
    recipe.get(name).and_then(Value::as_str)
}

fn decoded(segment: &str) -> Recipe {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(segment).unwrap()).unwrap()
}

/// Adds a member that is an array in an array in an array …
fn nest(object: &mut Recipe, depth: Option<&Value>) {
    if let Some(depth) = depth.and_then(Value::as_u64) {
        let nested = (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        object.insert("nested".into(), nested);
    }
}

fn jwe(parameters: &Recipe) -> String {
    let mut header = parameters.clone();
    header.entry("enc").or_insert("A128CBC-HS256".into());
    header.entry("p2s").or_insert("AAAAAAAAAAA".into());
    let header = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header).unwrap());
    let filler = URL_SAFE_NO_PAD.encode([7; 32]);
    format!("{header}.{filler}.{filler}.{filler}.{filler}")
}

fn mutated(token: String, mutation: &str) -> String {
    let (word, argument) = mutation.split_once(':').unwrap_or((mutation, ""));
    let parts: Vec<&str> = token.split('.').collect();
    match word {
        "drop_header" => format!(".{}.{}", parts[1], parts[2]),
        "drop_payload" => format!("{}..{}", parts[0], parts[2]),
        "drop_sig" => format!("{}.{}.", parts[0], parts[1]),
        "drop_sig_and_dot" => format!("{}.{}", parts[0], parts[1]),
        "truncate" => token[..token.len() - argument.parse::<usize>().unwrap()].to_owned(),
        "append" => token + argument,
        "prepend" => format!("{argument}{token}"),
        "noncanonical_tail" => {
            // The unused low bits of the last character: the bytes stay the same for a lenient decoder.
            const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let place = ALPHABET.iter().position(|b| *b == *token.as_bytes().last().unwrap()).unwrap();
            format!("{}{}", &token[..token.len() - 1], ALPHABET[place ^ 1] as char)
        }
        "std_b64" => {
            let recode = |part: &str| STANDARD.encode(URL_SAFE_NO_PAD.decode(part).unwrap());
            parts.iter().map(|part| recode(part)).collect::<Vec<_>>().join(".")
        }
        "pad" => parts.iter().map(|part| format!("{part}==")).collect::<Vec<_>>().join("."),
        "percent_dots" => token.replace('.', "%2E"),
        "replace_dot" => token.replace('.', argument),
        other => panic!("the recipe mutates by {other:?}, which is not supported here"),
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// `a - b` of big-endian numbers of one length.
fn difference(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    let mut bytes: Vec<u8> = a
        .iter()
        .zip(b)
        .rev()
        .map(|(&a, &b)| {
            let digit = i16::from(a) - i16::from(b) - borrow;
            borrow = i16::from(digit < 0);
            digit.rem_euclid(256) as u8
        })
        .collect();
    bytes.reverse();
    bytes
}

/// `a + b` of a little-endian and a big-endian number of one length.
fn sum_little_endian(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut carry = 0;
    a.iter()
        .zip(b.iter().rev())
        .map(|(&a, &b)| {
            let digit = u16::from(a) + u16::from(b) + carry;
            carry = digit >> 8;
            digit as u8
        })
        .collect()
}
