//! Users of an LDAP directory (RFC 4511): found by a search, verified by a bind as the entry found. No hash
//! is ever read.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use ldap3::{
    Ldap, LdapConnAsync, LdapConnSettings, LdapError, LdapResult, Scope, SearchEntry, SearchResult,
    dn_escape, ldap_escape,
};
use serde_json::{Map, Value};
use tokio_rustls::rustls::ClientConfig;

use super::name::{CanonicalName, map};
use super::password::Password;
use super::remote::{Remote, SourceUnavailable};
use super::user_entry::is_visible_ascii;
use super::user_store::{Credential, Lookup, User};
use crate::config::LdapUsers;
use crate::tls::client_config;

/// Results of a bind that are about its user (RFC 4511 appendix A): constraintViolation, which some directories say for a
/// locked account, noSuchObject, invalidDNSyntax, inappropriateAuthentication for an entry without a password,
/// invalidCredentials, and unwillingToPerform for a disabled account.
const REFUSALS: [u32; 6] = [19, NO_SUCH_OBJECT, 34, 48, 49, 53];
/// `sizeLimitExceeded` of RFC 4511.
const SIZE_LIMIT_EXCEEDED: u32 = 4;
/// `noSuchObject` of RFC 4511.
const NO_SUCH_OBJECT: u32 = 32;
/// `referral` of RFC 4511.
const REFERRAL: u32 = 10;
/// Attributes that change with the password, in OpenLDAP's password policy and in Active Directory.
const PASSWORD_CHANGED: [&str; 2] = ["pwdChangedTime", "pwdLastSet"];

/// A directory.
#[derive(Debug)]
pub(super) struct LdapSource {
    remote: Remote,
    client: Arc<Client>,
}

#[derive(Debug)]
struct Client {
    settings: LdapUsers,
    tls: Option<Arc<ClientConfig>>,
}

/// Why a directory gave no answer.
#[derive(Debug, thiserror::Error)]
enum DirectoryError {
    #[error(transparent)]
    Ldap(#[from] LdapError),
    /// With the addresses of the servers.
    #[error("it refers to {0}, and referrals are not followed: name that server in `url`")]
    Referral(String),
}

/// Whether an operation has succeeded.
fn succeeded(result: LdapResult) -> Result<(), DirectoryError> {
    match result.rc {
        REFERRAL => Err(DirectoryError::Referral(result.refs.join(", "))),
        _ => Ok(result.success().map(drop)?),
    }
}

impl LdapSource {
    /// Prepares a directory without connecting. An error is about its certificates.
    pub(super) fn new(name: &str, settings: LdapUsers) -> Result<LdapSource, String> {
        let uses_tls = settings.start_tls || settings.url.starts_with("ldaps:");
        let tls = uses_tls.then(|| client_config(settings.ca_file.as_ref(), None)).transpose()?;
        let remote = Remote::new(name, settings.timeout).map_err(|error| error.to_string())?;
        Ok(LdapSource { remote, client: Arc::new(Client { settings, tls: tls.map(Arc::new) }) })
    }

    pub(super) fn last_error(&self) -> Option<String> {
        self.remote.last_error()
    }

    /// The user of that name, if there is exactly one.
    pub(super) async fn by_name(&self, name: &CanonicalName) -> Result<Lookup, SourceUnavailable> {
        let (client, name) = (Arc::clone(&self.client), name.clone());
        self.remote.submit(async move { client.by_name(&name).await }).await
    }

    /// The user of that id, if there is exactly one.
    pub(super) async fn by_id(&self, id: &str) -> Result<Option<User>, SourceUnavailable> {
        let (client, id) = (Arc::clone(&self.client), id.to_owned());
        let found = self.remote.submit(async move { client.by_id(&id).await }).await?;
        Ok(match found {
            Lookup::Found(user) => Some(user),
            Lookup::Absent | Lookup::Unusable(_) => None,
        })
    }

    /// Whether `password` is that of `dn`. Without a `dn` the result is false after a bind that takes as
    /// long.
    pub(super) async fn verify(
        &self,
        dn: Option<&str>,
        password: Password,
    ) -> Result<bool, SourceUnavailable> {
        let client = Arc::clone(&self.client);
        let unknown_dn = || format!("cn=unknown_dn,{}", client.settings.base);
        let dn = dn.map_or_else(unknown_dn, str::to_owned);
        self.remote.submit(async move { client.verify(&dn, &password).await }).await
    }
}

impl Client {
    async fn connect(&self) -> Result<Ldap, DirectoryError> {
        let mut settings = LdapConnSettings::new().set_starttls(self.settings.start_tls);
        if let Some(tls) = &self.tls {
            settings = settings.set_config(Arc::clone(tls));
        }
        let (connection, ldap) = LdapConnAsync::with_settings(settings, &self.settings.url).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.drive().await {
                tracing::debug!(%error, "a connection to the directory has ended");
            }
        });
        Ok(ldap)
    }

    /// A connection that is bound for searching.
    async fn searching(&self) -> Result<Ldap, DirectoryError> {
        let mut ldap = self.connect().await?;
        if let Some((dn, password)) = &self.settings.bind {
            succeeded(ldap.simple_bind(dn, password).await?)?;
        }
        Ok(ldap)
    }

    async fn by_name(&self, name: &CanonicalName) -> Result<Lookup, DirectoryError> {
        match &self.settings.user_dn {
            Some(template) => {
                let dn = template.replace("{username}", &dn_escape(name.as_str()));
                self.find(&dn, Scope::Base, "(objectClass=*)", Some(name)).await
            }
            None => {
                let filter = self.settings.filter.replace("{username}", &ldap_escape(name.as_str()));
                self.find(&self.settings.base, Scope::Subtree, &filter, Some(name)).await
            }
        }
    }

    async fn by_id(&self, id: &str) -> Result<Lookup, DirectoryError> {
        let by_id = format!("({}={})", self.settings.id_attribute, ldap_escape(id));
        // Who may not log in any more does not stay logged in either.
        let filter = match &self.settings.user_dn {
            Some(_) => by_id,
            None => format!("(&{by_id}{})", of_any_name(&self.settings.filter)),
        };
        self.find(&self.settings.base, Scope::Subtree, &filter, None).await
    }

    /// The only entry that fits, as a user; where `typed` is given, one that has that name.
    async fn find(
        &self,
        base: &str,
        scope: Scope,
        filter: &str,
        typed: Option<&CanonicalName>,
    ) -> Result<Lookup, DirectoryError> {
        let settings = &self.settings;
        let mut ldap = self.searching().await?;
        let named = names_in(settings.user_dn.as_deref().unwrap_or(&settings.filter));
        let mut attributes = vec![settings.id_attribute.as_str(), settings.username_attribute.as_str()];
        attributes.extend(named.iter().flatten().map(|name| name.attribute));
        attributes.extend(PASSWORD_CHANGED);
        attributes.extend(settings.claims.values().map(String::as_str));
        attributes.extend(settings.member_of.as_deref());
        let found = ldap.search(base, scope, filter, attributes).await?;
        if found.1.rc == NO_SUCH_OBJECT {
            return Ok(Lookup::Absent);
        }
        if found.1.rc == SIZE_LIMIT_EXCEEDED {
            tracing::warn!(
                filter,
                "more entries of the directory fit than it lists, so that none may log in"
            );
            return Ok(Lookup::Unusable("more entries fit than the directory lists".to_owned()));
        }
        if found.1.rc == REFERRAL && scope == Scope::Base {
            tracing::warn!(
                dn = base,
                refers_to = %found.1.refs.join(", "),
                "the directory refers to another server for an entry, and referrals are not followed, so that it may not log in"
            );
            return Ok(Lookup::Unusable("the directory refers to another server for it".to_owned()));
        }
        let SearchResult(mut entries, result) = found;
        succeeded(result)?;
        let Some(entry) = entries.pop().map(SearchEntry::construct) else { return Ok(Lookup::Absent) };
        if !entries.is_empty() {
            tracing::warn!(filter, "several entries of the directory fit, so that none may log in");
            return Ok(Lookup::Unusable("several entries fit".to_owned()));
        }
        // A directory may find one name by another, such as without its accents: each would have a lock of its own.
        if let (Some(typed), Some(named)) = (typed, named)
            && !named.iter().any(|name| name.is_in(&entry.attrs, typed))
        {
            tracing::debug!(dn = entry.dn, %typed, "the entry that the directory found has another name");
            return Ok(Lookup::Absent);
        }
        let user = self.user(&mut ldap, entry).await?;
        // Without an unbind the server would have to notice the end by itself.
        let _ = ldap.unbind().await;
        Ok(user)
    }

    async fn user(&self, ldap: &mut Ldap, entry: SearchEntry) -> Result<Lookup, DirectoryError> {
        let settings = &self.settings;
        let first = |name: &str| attribute(&entry.attrs, name).and_then(|values| values.first()).cloned();
        let (id, raw) = (first(&settings.id_attribute), first(&settings.username_attribute));
        let (Some(id), Some(username)) = (id, raw.as_deref().and_then(CanonicalName::parse)) else {
            tracing::warn!(
                dn = entry.dn,
                "an entry of the directory has no id or no user name, so that it may not log in"
            );
            return Ok(Lookup::Unusable(format!("{} has no id or no user name", entry.dn)));
        };
        let groups = match (&settings.member_of, &settings.groups) {
            (Some(member_of), _) => {
                let of = attribute(&entry.attrs, member_of).cloned().unwrap_or_default();
                of.iter().map(|dn| first_value(dn).to_owned()).collect()
            }
            (None, Some(groups)) => {
                let filter = groups
                    .filter
                    .replace("{dn}", &ldap_escape(entry.dn.as_str()))
                    .replace("{username}", &ldap_escape(username.as_str()));
                let attributes = [groups.attribute.as_str()];
                let SearchResult(found, result) =
                    ldap.search(&groups.base, Scope::Subtree, &filter, attributes).await?;
                succeeded(result)?;
                let entries = found.into_iter().map(SearchEntry::construct);
                entries
                    .flat_map(|group| attribute(&group.attrs, &groups.attribute).cloned().unwrap_or_default())
                    .collect()
            }
            (None, None) => Vec::new(),
        };
        let claim = |(claim, name): (&String, &String)| {
            let values = attribute(&entry.attrs, name)?;
            let value = match &values[..] {
                [one] => Value::from(one.as_str()),
                several => Value::from(several.to_vec()),
            };
            Some((claim.clone(), value))
        };
        let changed: String = PASSWORD_CHANGED.iter().filter_map(|name| first(name)).collect();
        Ok(Lookup::Found(User {
            id,
            username: username.as_str().to_owned(),
            roles: roles(groups, settings.roles.as_ref()),
            claims: settings.claims.iter().filter_map(claim).collect::<Map<_, _>>(),
            credential: Credential::Bind { dn: entry.dn, changed },
            disabled: false,
            session_epoch: 0,
            must_change_password: false,
        }))
    }

    async fn verify(&self, dn: &str, password: &Password) -> Result<bool, DirectoryError> {
        // A bind without a password is anonymous and succeeds (RFC 4513 section 5.1.2).
        let (Ok(password), false) = (str::from_utf8(password.as_bytes()), password.as_bytes().is_empty())
        else {
            return Ok(false);
        };
        let mut ldap = self.connect().await?;
        let answer = ldap.simple_bind(dn, password).await?;
        let _ = ldap.unbind().await;
        match answer.rc {
            0 => Ok(true),
            code if REFUSALS.contains(&code) => Ok(false),
            _ => succeeded(answer).map(|()| true),
        }
    }
}

/// A place of the name in a filter or a DN: `uid={username}`, or `mail={username}@example.org`.
#[derive(Debug, PartialEq, Eq)]
struct NamePlace<'a> {
    attribute: &'a str,
    /// With `{username}` in it.
    value: &'a str,
}

impl NamePlace<'_> {
    /// Whether an entry has the value for that name, compared as names are.
    fn is_in(&self, attributes: &HashMap<String, Vec<String>>, name: &CanonicalName) -> bool {
        let wanted = map(&self.value.replace("{username}", name.as_str()));
        let values = attribute(attributes, self.attribute).into_iter().flatten();
        values.into_iter().any(|value| map(value) == wanted)
    }
}

/// The places of the name in a filter or a DN; `None` where one of them is more than a comparison with a value.
fn names_in(template: &str) -> Option<Vec<NamePlace<'_>>> {
    const ENDS: [char; 4] = ['(', ')', ',', '+'];
    let items = template.split(ENDS).filter(|item| item.contains("{username}"));
    items.map(|item| name_place(item.trim())).collect()
}

fn name_place(item: &str) -> Option<NamePlace<'_>> {
    let (attribute, value) = item.split_once('=')?;
    let is_plain = attribute.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.;".contains(&byte));
    (is_plain && !value.contains(['*', '\\'])).then_some(NamePlace { attribute, value })
}

/// The filter for users of any name, to be combined with an id. The whole filter is dropped where that cannot be written.
fn of_any_name(filter: &str) -> String {
    match names_in(filter) {
        Some(_) => filter.replace("{username}", "*"),
        None => "(objectClass=*)".to_owned(),
    }
}

/// Attribute names are compared without case.
fn attribute<'a>(attributes: &'a HashMap<String, Vec<String>>, name: &str) -> Option<&'a Vec<String>> {
    attributes.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, values)| values)
}

/// `admins` of `cn=admins,ou=groups,dc=example`.
fn first_value(dn: &str) -> &str {
    let first = dn.split(',').next().unwrap_or_default();
    first.split_once('=').map_or(first, |(_, value)| value.trim())
}

/// The roles of groups: those the configuration maps, or all where it maps none.
fn roles(
    groups: Vec<String>,
    names: Option<&std::collections::BTreeMap<String, Vec<String>>>,
) -> Vec<String> {
    let mut roles: Vec<String> = match names {
        Some(names) => groups.iter().filter_map(|group| names.get(group)).flatten().cloned().collect(),
        None => groups.into_iter().filter(|group| is_visible_ascii(group)).collect(),
    };
    roles.sort();
    roles.dedup();
    roles
}

/// The fingerprint of a password that cannot be read: when it was changed, where the directory has that.
pub(super) fn fingerprint(dn: &str, changed: &str) -> [u8; 16] {
    let mut fingerprint = [0; 16];
    let hash = digest(&SHA256, format!("{dn}\0{changed}").as_bytes());
    fingerprint.copy_from_slice(&hash.as_ref()[..16]);
    fingerprint
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn groups_become_the_roles_that_they_are_given() {
        let groups = || vec!["staff".to_owned(), "admins".to_owned(), "two words".to_owned()];
        assert_eq!(roles(groups(), None), ["admins", "staff"]);
        let names = [("admins".to_owned(), vec!["admin".to_owned(), "user".to_owned()])].into();
        assert_eq!(roles(groups(), Some(&names)), ["admin", "user"]);
        assert_eq!(first_value("cn=admins,ou=groups,dc=example"), "admins");
    }

    #[test]
    fn the_fingerprint_follows_the_time_of_the_change() {
        assert_ne!(fingerprint("uid=a", "1"), fingerprint("uid=a", "2"));
        assert_eq!(fingerprint("uid=a", "1"), fingerprint("uid=a", "1"));
    }

    #[test]
    fn the_name_that_was_typed_has_to_be_the_name_of_the_entry() {
        let entry: HashMap<String, Vec<String>> = [
            ("uid".to_owned(), vec!["elise".to_owned(), "Elise.B".to_owned()]),
            ("mail".to_owned(), vec!["Elise@Example.org".to_owned()]),
        ]
        .into();
        let has = |template: &str, typed: &str| {
            let name = CanonicalName::parse(typed).unwrap();
            names_in(template).map(|names| names.iter().any(|place| place.is_in(&entry, &name)))
        };
        for (template, typed, expected) in [
            ("(uid={username})", "elise", Some(true)),
            ("(uid={username})", "ELISE.b", Some(true)),
            ("(uid={username})", "élise", Some(false)),
            ("(UID={username})", "elise", Some(true)),
            ("(&(objectClass=person)(|(uid={username})(mail={username})))", "elise@example.org", Some(true)),
            ("(mail={username}@example.org)", "elise", Some(true)),
            ("(mail={username}@example.org)", "elise.b", Some(false)),
            ("uid={username},ou=people,dc=example,dc=org", "elise", Some(true)),
            ("uid={username}+ou=x,dc=example", "élise", Some(false)),
            // What is no comparison of one attribute is the directory's to judge.
            ("(uid~={username})", "elize", None),
            ("(uid:caseExactMatch:={username})", "elise", None),
            ("(cn=*{username}*)", "elise", None),
        ] {
            assert_eq!(has(template, typed), expected, "{template} {typed}");
        }
    }

    #[test]
    fn a_refresh_keeps_the_conditions_of_the_filter() {
        for (filter, expected) in [
            ("(uid={username})", "(uid=*)"),
            ("(&(uid={username})(!(locked=TRUE)))", "(&(uid=*)(!(locked=TRUE)))"),
            ("(mail={username}@example.org)", "(mail=*@example.org)"),
            ("(uid:caseExactMatch:={username})", "(objectClass=*)"),
        ] {
            assert_eq!(of_any_name(filter), expected);
        }
    }
}
