//! One `[[users]]` table of the users file, validated key by key: all errors are reported, not just the
//! first.

use std::collections::HashMap;
use std::ops::Range;

use serde_json::{Map, Value};
use toml_edit::{Array, Item, Table, TableLike};

use super::diagnostic::{Diagnostics, did_you_mean, quoted};
use super::file::FilePolicy;
use super::name::CanonicalName;
use super::password_hash::{PasswordHash, PasswordHashError};
use super::user_store::User;
use crate::config::RESERVED_CLAIMS;

const MAX_ID_BYTES: usize = 128;

const USER_KEYS: [&str; 8] =
    ["id", "username", "password", "roles", "disabled", "must_change_password", "session_epoch", "claims"];

pub(super) type Span = Option<Range<usize>>;

/// Where each id and each name first appeared, for rejecting duplicates.
#[derive(Default)]
pub(super) struct FirstLines {
    ids: HashMap<String, usize>,
    names: HashMap<CanonicalName, usize>,
}

/// One `[[users]]` table that becomes a [`User`].
pub(super) struct Entry<'a> {
    pub(super) diagnostics: &'a mut Diagnostics,
    pub(super) table: &'a Table,
    pub(super) policy: FilePolicy,
    /// Such as `users[0]`.
    pub(super) name: String,
}

impl<'a> Entry<'a> {
    /// The user, or `None` after at least one error.
    pub(super) fn user(&mut self, first_lines: &mut FirstLines) -> Option<User> {
        let errors_before = self.diagnostics.errors.len();
        self.reject_unknown_keys();
        let id = self.id(&mut first_lines.ids);
        let name = self.username(&mut first_lines.names);
        let password = self.password();
        let roles = self.roles();
        let disabled = self.flag("disabled");
        let must_change_password = self.flag("must_change_password");
        let session_epoch = self.session_epoch();
        let claims = self.claims();
        let user = User {
            id: id?,
            username: name?.as_str().to_owned(),
            credential: password?.into(),
            roles,
            claims,
            disabled,
            session_epoch,
            must_change_password,
        };
        (self.diagnostics.errors.len() == errors_before).then_some(user)
    }

    fn reject_unknown_keys(&mut self) {
        for (key, _) in self.table.iter().filter(|(key, _)| !USER_KEYS.contains(key)) {
            let hint = did_you_mean(key, USER_KEYS);
            let remedy = format!("a user has {}", USER_KEYS.join(", "));
            self.error(key, format!("unknown key{hint}"), remedy);
        }
    }

    fn id(&mut self, first_lines: &mut HashMap<String, usize>) -> Option<String> {
        let id = self.required_string("id", "write id = \"1\", with another id for each user")?;
        if !is_visible_ascii(id) || id.len() > MAX_ID_BYTES {
            let message = format!("{} is no id", quoted(id));
            self.error("id", message, format!("write 1 to {MAX_ID_BYTES} visible ASCII characters"));
            return None;
        }
        let line = self.line("id");
        if let Some(first) = first_lines.get(id) {
            let message = format!("the id {} is already used on line {first}", quoted(id));
            self.error("id", message, "give each user an id of its own");
            return None;
        }
        first_lines.insert(id.to_owned(), line);
        Some(id.to_owned())
    }

    fn username(&mut self, first_lines: &mut HashMap<CanonicalName, usize>) -> Option<CanonicalName> {
        let raw = self.required_string("username", "write username = \"NAME\"")?;
        let Some(name) = CanonicalName::parse(raw) else {
            self.error("username", format!("{} is no user name", quoted(raw)), CanonicalName::RULE);
            return None;
        };
        let (span, key) = (key_span(self.table, "username"), self.key("username"));
        if !self.policy.allows_name(self.diagnostics, (span, &key), &name) {
            return None;
        }
        let line = self.line("username");
        if let Some(first) = first_lines.get(&name) {
            let message = format!("the name {name} is already used on line {first}");
            self.error("username", message, "give each user a name of its own; capitals make no difference");
            return None;
        }
        first_lines.insert(name.clone(), line);
        Some(name)
    }

    fn password(&mut self) -> Option<PasswordHash> {
        let phc = self.required_string("password", "make a hash with `auth-gateway hash-password`")?;
        match PasswordHash::parse(phc) {
            Ok(hash) => {
                if let Some(weakness) = hash.weakness() {
                    let key = self.key("password");
                    let message = format!("the hash is weak: {weakness}");
                    let remedy = "set the password anew with `auth-gateway users passwd NAME`";
                    self.diagnostics.warn(key_span(self.table, "password"), key, message, remedy);
                }
                Some(hash)
            }
            Err(error) => {
                let remedy = match error {
                    PasswordHashError::Excessive(_) => "make a hash of a lower cost",
                    _ => "make a hash with `auth-gateway hash-password`",
                };
                self.error("password", error.to_string(), remedy);
                None
            }
        }
    }

    fn roles(&mut self) -> Vec<String> {
        const REMEDY: &str = "write roles = [\"NAME\", …], each role in visible ASCII characters";
        let Some(item) = self.table.get("roles") else { return Vec::new() };
        let Some(array) = item.as_array() else {
            self.wrong_type("roles", "an array of strings", item.type_name(), REMEDY);
            return Vec::new();
        };
        let mut roles = Vec::with_capacity(array.len());
        for (index, element) in array.iter().enumerate() {
            let key = format!("{}[{index}]", self.key("roles"));
            match element.as_str() {
                Some(role) if is_visible_ascii(role) => {
                    if role.contains(',') {
                        let message = format!("{} is one role, comma included", quoted(role));
                        let remedy = "write each role by itself: roles = [\"user\", \"admin\"]";
                        self.diagnostics.warn(element.span(), key, message, remedy);
                    }
                    roles.push(role.to_owned());
                }
                Some(role) => {
                    self.diagnostics.error(
                        element.span(),
                        key,
                        format!("{} is no role", quoted(role)),
                        REMEDY,
                    );
                }
                None => {
                    let message = format!("expected a string, found {}", with_article(element.type_name()));
                    self.diagnostics.error(element.span(), key, message, REMEDY);
                }
            }
        }
        roles
    }

    fn flag(&mut self, key: &str) -> bool {
        let Some(item) = self.table.get(key) else { return false };
        item.as_bool().unwrap_or_else(|| {
            self.wrong_type(key, "true or false", item.type_name(), &format!("write {key} = true"));
            false
        })
    }

    fn session_epoch(&mut self) -> u64 {
        let Some(item) = self.table.get("session_epoch") else { return 0 };
        item.as_integer().and_then(|epoch| u64::try_from(epoch).ok()).unwrap_or_else(|| {
            let remedy = "write a number from 0 on; another number ends the user's sessions";
            self.wrong_type("session_epoch", "a number from 0 on", item.type_name(), remedy);
            0
        })
    }

    fn claims(&mut self) -> Map<String, Value> {
        const REMEDY: &str = "write a string, an integer, true, false or an array of strings";
        let Some(item) = self.table.get("claims") else { return Map::new() };
        let Some(table) = item.as_table_like() else {
            self.wrong_type("claims", "a table", item.type_name(), "write a table [users.claims]");
            return Map::new();
        };
        let mut claims = Map::new();
        for (name, item) in table.iter() {
            let key = format!("{}.{}", self.key("claims"), quoted(name));
            let span = key_span(table, name);
            if RESERVED_CLAIMS.contains(&name) {
                let message = "the gateway itself sets this claim";
                self.diagnostics.error(span, key, message, "choose another name");
            } else if let Some(value) = claim_value(item) {
                claims.insert(name.to_owned(), value);
            } else {
                let message = format!("a claim cannot be {}", with_article(item.type_name()));
                self.diagnostics.error(span, key, message, REMEDY);
            }
        }
        claims
    }

    fn required_string(&mut self, key: &str, remedy: &str) -> Option<&'a str> {
        match self.table.get(key) {
            None => {
                let name = self.name.clone();
                self.diagnostics.error(self.table.span(), name, format!("{key} is missing"), remedy);
                None
            }
            Some(item) => {
                if item.as_str().is_none() {
                    self.wrong_type(key, "a string", item.type_name(), remedy);
                }
                item.as_str()
            }
        }
    }

    fn wrong_type(&mut self, key: &str, expected: &str, found: &str, remedy: &str) {
        self.error(key, format!("expected {expected}, found {}", with_article(found)), remedy);
    }

    fn error(&mut self, key: &str, message: String, remedy: impl Into<String>) {
        let span = key_span(self.table, key);
        let key = self.key(key);
        self.diagnostics.error(span, key, message, remedy);
    }

    fn key(&self, key: &str) -> String {
        let is_bare = key.len() <= 40 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        if is_bare { format!("{}.{key}", self.name) } else { format!("{}.{}", self.name, quoted(key)) }
    }

    fn line(&self, key: &str) -> usize {
        key_span(self.table, key).map_or(0, |span| self.diagnostics.line_of(span.start))
    }
}

fn claim_value(item: &Item) -> Option<Value> {
    let strings = |array: &Array| array.iter().map(|element| element.as_str().map(Value::from)).collect();
    let text = item.as_str().map(Value::from);
    text.or_else(|| item.as_integer().map(Value::from))
        .or_else(|| item.as_bool().map(Value::from))
        .or_else(|| item.as_array().and_then(strings).map(Value::Array))
}

pub(super) fn key_span(table: &dyn TableLike, key: &str) -> Span {
    let (key, item) = table.get_key_value(key)?;
    key.span().or_else(|| item.span())
}

pub(super) fn is_visible_ascii(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

pub(super) fn with_article(type_name: &str) -> String {
    let article = if type_name.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {type_name}")
}
