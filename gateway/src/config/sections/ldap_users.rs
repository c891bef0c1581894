//! `[users.ldap]`: an LDAP directory as a source of users and groups.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::files::existing_file;
use super::secret::{SecretSource, secret};
use super::up_to;
use super::users::{plain_text, secret_text, text_map};
use crate::config::declaration::{Key, Shape, boolean, duration, section, table, text};
use crate::config::entry::InvalidValue;
use crate::config::settings::{LdapGroups, LdapUsers};
use crate::config::table::Table;

section! {
    /// An LDAP directory, which verifies passwords itself.
    pub(super) struct LdapKeys {
        /// ldaps://, or ldap:// with start_tls.
        url: Option<String> = text(url).example("\"ldaps://ldap.example.org\"");
        /// Whether to use StartTLS, for ldap://.
        start_tls: bool = boolean().default("false");
        /// PEM certificates to trust instead of the system's.
        ca_file: Option<PathBuf> = text(existing_file).example("\"secrets/ldap-ca.pem\"");
        /// The DN that searches; anonymous by default.
        bind_dn: Option<String> = plain_text().example("\"cn=gateway,dc=example,dc=org\"");
        /// A file with its password.
        bind_password: SecretSource = secret("\"secrets/ldap\"", "\"…\"");
        /// The base DN of the search for users.
        base: Option<String> = plain_text().example("\"ou=people,dc=example,dc=org\"");
        /// The filter of the search for a user.
        filter: String = text(with_username).default("(uid={username})");
        /// The DN of a user by name, in place of a search by the filter.
        user_dn: Option<String> = text(with_username).example("\"uid={username},ou=people,dc=example,dc=org\"");
        /// The attribute with the user's permanent id.
        id_attribute: String = plain_text().default("entryUUID");
        /// The attribute with the user's name.
        username_attribute: String = plain_text().default("uid");
        /// An attribute with the DNs of the user's groups.
        member_of: Option<String> = plain_text().example("\"memberOf\"");
        /// A search for the user's groups.
        groups: GroupKeys = table();
        /// The roles of each group; by default, every group is a role of its name.
        roles: BTreeMap<String, Vec<String>> = roles().example("{ staff = [\"user\"] }");
        /// Further claims: the attribute of each.
        claims: BTreeMap<String, String> = text_map(|text| Ok(text.to_owned())).example("{ email = \"mail\" }");
        /// Timeout of a lookup or a bind, connecting included. A login gives up after 6s, whatever stands here.
        timeout: Duration = duration(up_to(Duration::from_secs(60))).default("3s");
    }
}

section! {
    /// The search for the groups of a user.
    pub(super) struct GroupKeys {
        /// The base DN of the search; without it, groups are not searched.
        base: Option<String> = plain_text().example("\"ou=groups,dc=example,dc=org\"");
        /// The filter; {username} may be used as well.
        filter: String = plain_text().default("(member={dn})");
        /// The attribute that names a group.
        attribute: String = plain_text().default("cn");
    }
}

impl LdapKeys {
    pub(super) fn settings(self, table: &Table<'_>) -> Option<LdapUsers> {
        let (url_entry, base_entry, bind_entry) =
            (table.entry("url"), table.entry("base"), table.entry("bind_dn"));
        if bind_entry.is_given() == (self.bind_password == SecretSource::Nothing) {
            let why = InvalidValue::new("and `bind_password` belong together");
            bind_entry.refuse(why.help("give both, or leave both out"));
        }
        for (entry, example) in
            [(&url_entry, "ldaps://ldap.example.org"), (&base_entry, "ou=people,dc=example,dc=org")]
        {
            if !entry.is_given() {
                entry.refuse(InvalidValue::new("is missing").help(format!("write such as {example:?}")));
            }
        }
        let GroupKeys { base, filter, attribute } = self.groups;
        let settings = LdapUsers {
            start_tls: self.start_tls,
            ca_file: self.ca_file,
            bind: self.bind_dn.zip(secret_text(table, "bind_password", self.bind_password)),
            filter: self.filter,
            user_dn: self.user_dn,
            id_attribute: self.id_attribute,
            username_attribute: self.username_attribute,
            member_of: self.member_of,
            groups: base.map(|base| LdapGroups { base, filter, attribute }),
            roles: Some(self.roles).filter(|roles| !roles.is_empty()),
            claims: self.claims,
            timeout: self.timeout,
            base: self.base?,
            url: self.url?,
        };
        let on_this_machine = ["ldap://127.", "ldap://localhost", "ldap://[::1]"];
        if settings.url.starts_with("ldap:")
            && !settings.start_tls
            && !on_this_machine.iter().any(|start| settings.url.starts_with(start))
        {
            let why = InvalidValue::new("sends passwords in the clear");
            url_entry.warn("plain-ldap", why.help("write ldaps://, or start_tls = true beside it"));
        }
        if settings.start_tls && settings.url.starts_with("ldaps:") {
            let why = InvalidValue::new("is for ldap://; ldaps:// is TLS from the start");
            table.entry("start_tls").refuse(why.help("remove it"));
        }
        Some(settings)
    }
}

fn url(text: &str) -> Result<String, InvalidValue> {
    match text.starts_with("ldap://") || text.starts_with("ldaps://") {
        true => Ok(text.to_owned()),
        false => Err(InvalidValue::new("is no URL of a directory").help("begin it with ldaps:// or ldap://")),
    }
}

fn with_username(text: &str) -> Result<String, InvalidValue> {
    match text.contains("{username}") {
        true => Ok(text.to_owned()),
        false => {
            Err(InvalidValue::new("has no {username} in it").help("write {username} where the name belongs"))
        }
    }
}

fn roles() -> Key<BTreeMap<String, Vec<String>>> {
    Key::new(Shape::Map(Box::new(Shape::List(Box::new(Shape::Text)))), |entry| {
        let groups = entry.table_or_empty().entries().into_iter();
        let roles = |entry: crate::config::entry::Entry<'_>| entry.list_of(|role| Ok(role.to_owned()));
        groups.map(|(group, entry)| (group, roles(entry).unwrap_or_default())).collect()
    })
}
