//! `[[issuers]]`: other issuers whose tokens routes may accept.

use url::{Host, Url};

use super::Settings;
use super::claim_templates::RESERVED_CLAIMS;
use super::prelude::*;
use super::routes::{claims, role};
use super::tokens::{algorithm, name as claim_value};

/// A route's issuers are a set of 64 bits, one of which is the gateway's own.
const MAX_ISSUERS: usize = 63;

section! {
    /// Other issuers, such as an OpenID Connect provider, whose tokens are accepted beside the gateway's own on the routes that name
    /// them in `issuers`. Their users are NAME:username with the subject NAME:sub, so they are never taken for a local user.
    pub struct IssuerSettings {
        /// The name in a route's `issuers`, in logs and metrics, and before each user and subject: lower-case letters, digits, - and _.
        name: String = text(name)
            .required("write name = \"keycloak\"; routes accept its tokens with issuers = [\"own\", \"keycloak\"]")
            .or_empty()
            .example("\"keycloak\"");
        /// The `iss` claim, character for character. Without another source of keys, they are found by
        /// /.well-known/openid-configuration below it, which must name the same issuer.
        issuer: String = text(claim_value)
            .required("write the `iss` of its tokens, such as issuer = \"https://login.example/realms/main\"")
            .or_empty()
            .example("\"https://login.example/realms/main\"");
        /// The source of keys.
        keys: IssuerKeys = flat(keys);
        /// The algorithms that are accepted. []: no JWT is verified here; each token is introspected.
        algorithms: Vec<Algorithm> = texts(algorithm)
            .shape(Shape::List(Box::new(Shape::Choice(Algorithm::NAMES))))
            .or("every asymmetric one, with `secret` HS256", Vec::new)
            .example("[\"RS256\"]");
        /// One of these is required in `aud`. May be left out where required_claims names client_id or azp.
        audiences: Vec<String> = texts(claim_value).or_empty().example("[\"my-api\"]");
        /// Header types (`typ`) that are accepted, without case and without application/; a token without `typ` counts as "JWT".
        types: Vec<String> = texts(token_type).or("[\"at+jwt\", \"JWT\"]", || vec!["at+jwt".into(), "JWT".into()]).example("[\"at+jwt\"]");
        /// "access": what is marked as an ID token, a refresh token or a logout token is refused; "id": ID tokens are accepted, and what
        /// is marked as an access token is refused.
        token_use: TokenUse = choice().default("access");
        /// The claim with the user's name, at any depth: `profile.name`.
        username_claim: Option<String> =
            text(path).fallback("preferred_username, or the subject where a token has none").example("\"email\"");
        /// The claim with the user's id.
        subject_claim: String = text(path).default("sub");
        /// The claim with the user's roles: a list, or text; that of `scope` and `scp` is split at its spaces.
        roles_claim: Option<String> =
            text(path).fallback("no roles").example("\"realm_access.roles\"");
        /// Roles here, by those of the issuer; others are left out.
        role_map: Option<NameMap> = map(Shape::Text, "{ gateway-admin = \"admin\" }", |_, entry| entry.parse(role))
            .fallback("all roles stay as they are");
        /// Further claims that identity headers, header templates and routes see, by the name here: `claims = { email = "email" }`.
        claims: NameMap = map(Shape::Text, "{ email = \"email\", tenant = \"org.id\" }", |name, entry| {
            entry.parse(|text| claim_entry(name, text))
        })
        .or("none", NameMap::new);
        /// Claims that a token must have, with that value or one of several; of a claim that is a list, one element.
        required_claims: Vec<RequiredClaim> = claims().or_empty().example("{ azp = [\"web\", \"cli\"] }");
        /// Tolerated clock difference.
        leeway: Duration = whole_seconds(Duration::ZERO..=5 * MINUTE).default("30s");
        /// A token counts no longer than this after its `iat`, whatever its `exp` is.
        max_token_age: Duration = whole_seconds(seconds(1)..=YEAR).default("1d");
        /// Shortest time between two fetches of the keys, whatever Cache-Control says.
        refresh_min: Duration = duration(Duration::from_millis(100)..=DAY).default("5m");
        /// Longest time between two fetches of the keys.
        refresh_max: Duration = duration(seconds(1)..=7 * DAY).default("12h");
        /// An unknown `kid` has the keys fetched at once, but no more often than this.
        unknown_kid_interval: Duration = duration(Duration::from_millis(100)..=HOUR).default("30s");
        /// How long the last keys are used while the issuer cannot be reached; then its tokens get 503.
        max_stale: Duration = duration(MINUTE..=YEAR).default("7d");
        /// Where the last keys are kept, so that a restart works while the issuer cannot be reached.
        cache_dir: PathBuf = text(file_name).default("var/issuers");
        /// Timeout of one fetch or introspection: DNS, connecting, TLS, answer.
        timeout: Duration = duration(up_to(MINUTE)).default("5s");
        /// Trust instead of the system's certificates.
        tls_ca_file: Option<PathBuf> = text(existing_file).example("\"tls/login-ca.pem\"");
        /// Allows http:// to addresses other than loopback: whoever is on the way can then make tokens.
        allow_http: bool = boolean().default("false");
        /// Introspection.
        introspection: Option<Introspection> = flat(introspection);
    }
}

section! {
    /// Sources of keys.
    struct KeyKeys {
        /// The address of its JWK set, in place of discovery.
        jwks_url: Option<Url> = text(url).example("\"https://login.example/jwks\"");
        /// A file with its JWK set, in place of discovery.
        jwks_file: Option<PathBuf> = text(existing_file).example("\"config/issuer-jwks.json\"");
        /// For HS* only: the secret that it shares with the gateway, at least 32, 48 or 64 bytes.
        secret: SecretSource = secret("\"secrets/issuer\"", "\"openssl rand -base64 64\"");
    }
}

section! {
    /// Introspection.
    struct IntrospectionKeys {
        /// For opaque tokens: where to ask whether a token is active (RFC 7662).
        introspection_url: Option<Url> = text(url).example("\"https://login.example/introspect\"");
        /// The gateway's client there.
        introspection_client_id: Option<String> = text(client_id).example("\"gateway\"");
        /// The client's secret.
        introspection_client_secret: SecretSource = secret("\"secrets/introspection\"", "\"…\"");
        /// How long an answer counts, at most until the token expires. A token that is revoked there is accepted here for so long.
        introspection_cache_ttl: Duration = duration(seconds(1)..=HOUR).default("30s");
        /// How long the answer counts that a token is not active.
        introspection_negative_ttl: Duration = duration(seconds(1)..=HOUR).default("10s");
        /// Answers that are remembered.
        introspection_cache_size: usize = integer(1..=1_000_000).default("10000");
    }
}

/// The path of a claim that is given this name here.
fn claim_entry(name: &str, value: &str) -> Result<String, InvalidValue> {
    if RESERVED_CLAIMS.contains(&name) || name == "cnf" {
        return refused(
            format!("the claim {} is the gateway's own", quoted(name)),
            "choose another name, such as provider_sub = \"sub\"",
        );
    }
    path(value)
}

fn name(text: &str) -> Result<String, InvalidValue> {
    let is_name = !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
    if !is_name || text == OWN_ISSUER {
        let why = InvalidValue::new(format!("{} is not a name for another issuer", quoted(text)));
        return Err(why
            .help("use lower-case letters, digits, hyphens and underscores; \"own\" is the gateway itself"));
    }
    Ok(text.to_owned())
}

/// The path of a claim: names with dots between them.
fn path(text: &str) -> Result<String, InvalidValue> {
    accept(
        text,
        !(text.is_empty() || text.split('.').any(str::is_empty) || text.chars().any(char::is_control)),
        "is not the name of a claim",
        "write it like \"sub\", or \"realm_access.roles\" for one within another",
    )
}

fn token_type(text: &str) -> Result<String, InvalidValue> {
    let bare = text.strip_prefix("application/").unwrap_or(text);
    match !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_graphic() && b != b'/') {
        true => Ok(bare.to_owned()),
        false => refused(format!("{} is not a type of tokens", quoted(text)), "write it like \"at+jwt\""),
    }
}

fn client_id(text: &str) -> Result<String, InvalidValue> {
    match text.is_empty() || text.chars().any(char::is_control) {
        true => refused(
            format!("{} is not a client id", quoted(text)),
            "write the id that the issuer gave to the gateway",
        ),
        false => Ok(text.to_owned()),
    }
}

/// An address to fetch from. Whether http:// is allowed is judged where the other keys are known.
fn url(text: &str) -> Result<Url, InvalidValue> {
    let refuse = |why: &str| {
        refused(format!("{} {why}", quoted(text)), "write it like \"https://login.example/jwks\"")
    };
    let Ok(url) = Url::parse(text) else { return refuse("is not a URL") };
    if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
        return refuse("does not begin with https:// and a host");
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return refuse("has a user, a password or a fragment");
    }
    Ok(url)
}

/// Whether a host is this machine by its address or its name.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// The one source of keys that is configured, or discovery.
fn keys(keys: KeyKeys, table: &Table<'_>) -> IssuerKeys {
    let entries = [table.entry("jwks_url"), table.entry("jwks_file"), secret::given(table, "secret")];
    let given: Vec<&Entry<'_>> = entries.iter().filter(|entry| entry.is_given()).collect();
    if let [first, second, ..] = given[..] {
        second.refuse_beside(first, "keys come from one place: remove one of them");
        return IssuerKeys::Nowhere;
    }
    match keys {
        KeyKeys { jwks_url: Some(url), .. } => IssuerKeys::Url(url),
        KeyKeys { jwks_file: Some(path), .. } => match std::fs::read(&path) {
            Ok(content) => IssuerKeys::File { path, content },
            Err(error) => {
                entries[1].error(
                    format!("cannot be read: {error}"),
                    "let the account that the gateway runs as read it",
                );
                IssuerKeys::Nowhere
            }
        },
        KeyKeys { secret: SecretSource::Secret(secret), .. } => IssuerKeys::Secret(secret),
        _ if !given.is_empty() => IssuerKeys::Nowhere,
        _ if table.entry("algorithms").list().is_some_and(|list| list.is_empty()) => IssuerKeys::Nowhere,
        _ => discovery(table).unwrap_or(IssuerKeys::Nowhere),
    }
}

/// The address of the discovery document (OpenID Connect Discovery 1.0 section 4.1).
fn discovery(table: &Table<'_>) -> Option<IssuerKeys> {
    let entry = table.entry("issuer");
    let issuer = entry.quiet_text()?;
    let address = format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer));
    match url(&address) {
        Ok(url) if url.query().is_none() => Some(IssuerKeys::Discovery(url)),
        _ => {
            entry.error(
                format!("{} is no URL, so its keys cannot be discovered", quoted(issuer)),
                "name the address of its keys with jwks_url, or a file with jwks_file",
            );
            None
        }
    }
}

fn introspection(keys: IntrospectionKeys, table: &Table<'_>) -> Option<Introspection> {
    let entry = table.entry("introspection_url");
    if !table.needs("introspection_url", &IntrospectionKeys::keys()[1..]) {
        return None;
    }
    let client_id = keys.introspection_client_id;
    let SecretSource::Secret(client_secret) = keys.introspection_client_secret else {
        if keys.introspection_client_secret == SecretSource::Nothing {
            entry.error(
                "is given without `introspection_client_secret_file`",
                "issuers answer registered clients only: name the gateway's client with introspection_client_id and its secret",
            );
        }
        return None;
    };
    if client_id.is_none() && !table.entry("introspection_client_id").is_given() {
        entry
            .error("is given without `introspection_client_id`", "name the client that the gateway is there");
    }
    Some(Introspection {
        url: keys.introspection_url?,
        client_id: client_id?,
        client_secret,
        cache_ttl: keys.introspection_cache_ttl,
        negative_ttl: keys.introspection_negative_ttl,
        cache_size: keys.introspection_cache_size,
    })
}

/// Checks issuers together with each other, with the routes and with `[tokens]`.
pub(super) fn check(root: &Table<'_>, settings: &mut Settings) {
    let Settings { issuers, tokens, users, .. } = settings;
    let entry = root.entry("issuers");
    if issuers.len() > MAX_ISSUERS {
        entry.error(format!("there are more than {MAX_ISSUERS} issuers"), "remove those that no route names");
    }
    for (index, table) in entry.tables().iter().enumerate().take(issuers.len()) {
        let (earlier, rest) = issuers.split_at_mut(index);
        let issuer = &mut rest[0];
        issuer.check(table);
        let name = table.entry("name");
        if earlier.iter().any(|other| other.name == issuer.name) && !issuer.name.is_empty() {
            name.error("an issuer before has the same name", "give each a name of its own");
        }
        let is_own = issuer.issuer == tokens.issuer;
        if !issuer.issuer.is_empty() && (is_own || earlier.iter().any(|other| other.issuer == issuer.issuer))
        {
            let whose = if is_own { "the gateway's own (tokens.issuer)" } else { "that of an issuer before" };
            table
                .entry("issuer")
                .error(format!("is {whose}, and tokens are distinguished by it"), "remove one of them");
        }
        let own_prefix = format!("{}:", issuer.name);
        let mut prefixes = users.sources.iter().map(|source| &source.id_prefix);
        if let Some(prefix) = prefixes.find(|prefix| prefix.starts_with(&own_prefix)) {
            name.error(
                format!(
                    "users of a source have ids that begin with {prefix:?}, as those of this issuer would"
                ),
                "choose another name, or another `id_prefix` for the source",
            );
        }
    }
    check_routes(root, settings);
}

fn check_routes(root: &Table<'_>, settings: &Settings) {
    let names = settings.issuers.iter().map(|issuer| issuer.name.as_str());
    let known: Vec<&str> = std::iter::once(OWN_ISSUER).chain(names).collect();
    for (route, table) in settings.routes.iter().zip(root.entry("routes").tables()) {
        let entry = table.entry("issuers");
        if !entry.is_given() {
            continue;
        }
        if entry.list().is_some_and(|list| list.is_empty()) {
            entry.error(
                "no issuer is named, so no token would be accepted",
                "name one at least, such as \"own\"",
            );
        }
        if route.access == Access::Public {
            entry.error(
                "has no meaning on a public route, where tokens are ignored",
                "remove it, or set access = \"authenticated\" or \"optional\"",
            );
        }
        for name in route.issuers.iter().filter(|name| !known.contains(&name.as_str())) {
            entry.refuse(InvalidValue::unknown(
                format!("there is no issuer {}", quoted(name)),
                "known issuers",
                name,
                &known,
            ));
        }
        let introspect = |name: &&String| {
            settings.issuers.iter().any(|issuer| issuer.name == **name && issuer.introspection.is_some())
        };
        if route.issuers.iter().filter(introspect).count() > 1 {
            entry.error(
                "two of the issuers have an `introspection_url`, and an opaque token does not say whose it is",
                "accept opaque tokens of one issuer on a route: a token of one must not be shown to another",
            );
        }
    }
}

impl IssuerSettings {
    fn check(&mut self, table: &Table<'_>) {
        let of = |key: &str| table.entry(key);
        let opaque_only = of("algorithms").list().is_some_and(|list| list.is_empty());
        self.check_algorithms(table, opaque_only);
        let names_client = self
            .required_claims
            .iter()
            .any(|required| ["client_id", "azp"].contains(&required.claim.as_str()));
        if !names_client {
            of("audiences").require("name the `aud` that tokens for your app have, such as audiences = [\"my-api\"]: without it, tokens that were issued for any other app would be accepted");
        }
        if opaque_only && self.introspection.is_none() && !of("introspection_url").is_given() {
            of("algorithms").error(
                "no algorithm is named, so no token could be verified",
                "leave it out for every asymmetric one, or set introspection_url for opaque tokens",
            );
        }
        if self.refresh_min > self.refresh_max {
            of("refresh_max")
                .error("is shorter than `refresh_min`", "make it longer, or refresh_min shorter");
        }
        let keys_url = match &self.keys {
            IssuerKeys::Discovery(url) => Some(("issuer", url)),
            IssuerKeys::Url(url) => Some(("jwks_url", url)),
            _ => None,
        };
        let introspection_url = self.introspection.as_ref().map(|i| ("introspection_url", &i.url));
        let urls: Vec<_> = keys_url.into_iter().chain(introspection_url).collect();
        for (key, url) in &urls {
            if url.scheme() == "http" && !is_loopback(url) && !self.allow_http {
                of(key).error(
                    "is an http:// address of another machine: whoever is on the way to it could forge its keys",
                    "write https://, or set allow_http = true where that network is trusted",
                );
            }
        }
        if self.tls_ca_file.is_some() && !urls.iter().any(|(_, url)| url.scheme() == "https") {
            of("tls_ca_file").no_effect("nothing is fetched over https://");
        }
    }

    fn check_algorithms(&mut self, table: &Table<'_>, opaque_only: bool) {
        let entry = table.entry("algorithms");
        let is_secret = matches!(self.keys, IssuerKeys::Secret(_));
        if self.algorithms.is_empty() && !entry.is_given() {
            self.algorithms = match is_secret {
                true => vec![Algorithm::HS256],
                false => Algorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_symmetric()).collect(),
            };
        }
        let unfit = self.algorithms.iter().find(|algorithm| algorithm.is_symmetric() != is_secret);
        match unfit {
            Some(unfit) if is_secret => entry.error(
                format!("{} verifies with a public key, not with a secret", unfit.name()),
                "name HS* algorithms only, or another source of keys in place of the secret",
            ),
            Some(unfit) => entry.error(
                format!("{} verifies with a secret, and none is named", unfit.name()),
                "name asymmetric algorithms only, or set secret_file: a public key must never be taken for a secret",
            ),
            None => {}
        }
        if let IssuerKeys::Secret(secret) = &self.keys {
            let least = self.algorithms.iter().map(|algorithm| algorithm.min_secret_len()).max().unwrap_or(0);
            if secret.len() < least {
                let why = format!("the secret has {} bytes, and at least {least} are needed", secret.len());
                secret::given(table, "secret").error(why, "make one with `openssl rand -base64 64`");
            }
            if opaque_only {
                entry.error("no algorithm is named, but a secret is", "remove one of them");
            }
        }
    }
}

#[cfg(test)]
mod tests;
