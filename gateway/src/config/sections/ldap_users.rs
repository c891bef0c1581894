//! `[users.ldap]`: an LDAP directory as a source of users and groups.

use super::prelude::*;
use super::users::plain_text;

section! {
    /// An LDAP directory, which verifies passwords itself.
    pub struct LdapUsers {
        /// ldaps://, or ldap:// with start_tls.
        url: String = text(url)
            .required("write such as \"ldaps://ldap.example.org\"")
            .or_empty()
            .example("\"ldaps://ldap.example.org\"");
        /// Whether to use StartTLS, for ldap://.
        start_tls: bool = boolean().default("false");
        /// PEM certificates to trust instead of the system's.
        ca_file: Option<PathBuf> = text(existing_file).example("\"secrets/ldap-ca.pem\"");
        /// The DN and the password of searches.
        bind: Option<(String, Secret<String>)> = flat(bind);
        /// The base DN of the search for users.
        base: String = plain_text()
            .required("write such as \"ou=people,dc=example,dc=org\"")
            .or_empty()
            .example("\"ou=people,dc=example,dc=org\"");
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
        groups: Option<LdapGroups> = group_table::<LdapGroups>();
        /// The roles of each group; by default, every group is a role of its name.
        roles: Option<BTreeMap<String, Vec<String>>> = map(
            Shape::List(Box::new(Shape::Text)),
            "{ staff = [\"user\"] }",
            |_, entry| entry.list_of(|role| Ok(role.to_owned())),
        )
        .into(|roles, _| roles.filter(|roles| !roles.is_empty()));
        /// Further claims: the attribute of each.
        claims: BTreeMap<String, String> =
            or_default(map(Shape::Text, "{ email = \"mail\" }", |_, entry| entry.string().map(str::to_owned)));
        /// Timeout of a lookup or a bind, connecting included. A login gives up after 6s, whatever stands here.
        timeout: Duration = duration(up_to(Duration::from_secs(60))).default("3s");
    }
}

section! {
    /// The search for the groups of a user.
    pub struct LdapGroups {
        /// The base DN of the search; without it, groups are not searched.
        base: String = or_default(plain_text().example("\"ou=groups,dc=example,dc=org\""));
        /// The filter; {username} may be used as well.
        filter: String = plain_text().default("(member={dn})");
        /// The attribute that names a group.
        attribute: String = plain_text().default("cn");
    }
}

section! {
    /// Who searches.
    struct BindKeys {
        /// The DN that searches; anonymous by default.
        bind_dn: Option<String> = plain_text().example("\"cn=gateway,dc=example,dc=org\"");
        /// A file with its password.
        bind_password: SecretSource<Secret<String>> = secret("\"secrets/ldap\"", "\"…\"").parse(secret_text);
    }
}

fn bind(keys: BindKeys, table: &Table<'_>) -> Option<(String, Secret<String>)> {
    let (dn, password) = (table.entry("bind_dn"), secret::given(table, "bind_password"));
    for (given, other) in [(&dn, "bind_password_file"), (&password, "bind_dn")] {
        if given.is_given() && !(dn.is_given() && password.is_given()) {
            given.error(format!("is given without `{other}`"), "give both, or leave both out");
        }
    }
    match keys.bind_password {
        SecretSource::Secret(password) => keys.bind_dn.map(|dn| (dn, password)),
        _ => None,
    }
}

impl LdapUsers {
    pub(super) fn check(&self, table: &Table<'_>) {
        let on_this_machine = ["ldap://127.", "ldap://localhost", "ldap://[::1]"];
        if self.url.starts_with("ldap:")
            && !self.start_tls
            && !on_this_machine.iter().any(|start| self.url.starts_with(start))
        {
            table.entry("url").warn(
                "plain-ldap",
                "sends passwords in the clear",
                "write ldaps://, or start_tls = true beside it",
            );
        }
        if self.start_tls && self.url.starts_with("ldaps:") {
            let why = "is for ldap://; ldaps:// is TLS from the start";
            table.entry("start_tls").error(why, "remove it");
        }
    }
}

fn url(text: &str) -> Result<String, InvalidValue> {
    match text.starts_with("ldap://") || text.starts_with("ldaps://") {
        true => Ok(text.to_owned()),
        false => refused("is no URL of a directory", "begin it with ldaps:// or ldap://"),
    }
}

fn with_username(text: &str) -> Result<String, InvalidValue> {
    match text.contains("{username}") {
        true => Ok(text.to_owned()),
        false => refused("has no {username} in it", "write {username} where the name belongs"),
    }
}
