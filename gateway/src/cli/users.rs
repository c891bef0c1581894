//! `auth-gateway users …`: lists and edits users.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use clap::Subcommand;
use tokio::runtime::Builder;

use super::new_password::{Console, NewPasswordError};
use crate::config::{PasswordPolicy, Settings, Users};
use crate::server::{ControlCommand, ControlError, ControlResponse, control};
use crate::users::{
    CanonicalName, Credential, EditError, NameLookup, NewUser, SourceUnavailable, User, UserFileErrors,
    UserSources, UsersFile,
};

/// When an edit takes effect, printed after each.
const EFFECT_NOTE: &str = "a running gateway reloads it within a second";

/// What to do with users.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub(super) enum UsersCommand {
    #[command(flatten)]
    Edit(EditCommand),
    /// Show a user: the source, id, roles and password hash scheme
    Show {
        /// The name
        name: String,
    },
    /// Unlock a name after too many failed logins; takes effect at once on the running gateway
    Unlock {
        /// The name, whether there is such a user or not
        name: String,
    },
    /// Print a link by which a user sets a new password; it counts once and for a short time
    Reset {
        /// The user
        name: String,
        /// How long the link counts [default: users.reset_ttl]
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        ttl: Option<Duration>,
    },
    /// Remove a user's second factor, such as of a lost phone; the next login is by the password alone
    ResetMfa {
        /// The user
        name: String,
    },
    /// End all sessions of a user, on all instances at once
    Logout {
        /// The name, whether there still is such a user or not
        name: String,
    },
}

/// What to do with the users file.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub(super) enum EditCommand {
    /// Add a user; the password is read from a prompt or the first line of standard input
    Add {
        /// Letters, digits and . _ - @ +; case is ignored
        name: String,
        /// The user's permanent id, the `sub` of tokens [default: a random one]
        #[arg(long)]
        id: Option<String>,
        /// A role; may be repeated, or several separated by commas
        #[arg(long = "role", value_name = "ROLE", value_delimiter = ',')]
        roles: Vec<String>,
        /// Ask for another password at the first login
        #[arg(long)]
        must_change: bool,
    },
    /// Set a new password, read from a prompt or the first line of standard input
    Passwd {
        /// The user
        name: String,
        /// Ask for another password at the next login
        #[arg(long)]
        must_change: bool,
    },
    /// Ask a user for another password at the next login; sessions go on
    RequireChange {
        /// The user
        name: String,
        /// Ask for none any more
        #[arg(long)]
        undo: bool,
    },
    /// Disable a user, keeping the entry
    Disable {
        /// The user
        name: String,
    },
    /// Enable a disabled user
    Enable {
        /// The user
        name: String,
    },
    /// Remove a user; the sessions end, and the id is never reused for a random one
    Remove {
        /// The user
        name: String,
    },
    /// Print the roles of a user, or change them; they take effect with the next access token
    Roles {
        /// The user
        name: String,
        /// Exactly these from now on
        #[arg(value_name = "ROLE", value_delimiter = ',', conflicts_with_all = ["add", "remove", "none"])]
        roles: Vec<String>,
        /// Add a role; may be repeated, or several separated by commas
        #[arg(long, value_name = "ROLE", value_delimiter = ',')]
        add: Vec<String>,
        /// Take a role away; may be repeated, or several separated by commas
        #[arg(long, value_name = "ROLE", value_delimiter = ',')]
        remove: Vec<String>,
        /// No roles any more
        #[arg(long, conflicts_with_all = ["add", "remove"])]
        none: bool,
    },
    /// Print a table of all users
    List {
        /// As a JSON array of objects with `name`, `id`, `roles`, `disabled` and `claims`
        #[arg(long)]
        json: bool,
    },
}

/// Runs `command` on `users_file`.
pub(super) fn run(
    command: EditCommand,
    users_file: &Path,
    settings: &Users,
    console: &mut Console<'_>,
) -> Result<(), UsersError> {
    let file = UsersFile::new(users_file);
    match command {
        EditCommand::Add { name, id, roles, must_change } => {
            let name = parse_name(&name)?;
            if !settings.name_characters.allow(name.as_str()) {
                return Err(UsersError::NotAName(name.to_string()));
            }
            add(&file, name, id, roles, must_change, &settings.password_policy, console)
        }
        EditCommand::Passwd { name, must_change } => {
            passwd(&file, &name, must_change, &settings.password_policy, console)
        }
        EditCommand::RequireChange { name, undo } => {
            let name = parse_name(&name)?;
            file.require_change(&name, !undo)?;
            let what = if undo { "keeps the password" } else { "chooses another password at the next login" };
            Ok(writeln!(console.notes, "{name} {what}; {EFFECT_NOTE}")?)
        }
        EditCommand::Disable { name } => set_disabled(&file, &name, true, console),
        EditCommand::Enable { name } => set_disabled(&file, &name, false, console),
        EditCommand::Remove { name } => {
            let name = parse_name(&name)?;
            file.remove(&name)?;
            Ok(writeln!(console.notes, "{name} is removed; {EFFECT_NOTE}, and ends the user's sessions")?)
        }
        EditCommand::Roles { name, roles, add, remove, none } => {
            let name = parse_name(&name)?;
            let changes = none || !(roles.is_empty() && add.is_empty() && remove.is_empty());
            let now = file.change_roles(&name, |before| {
                let kept = before.iter().filter(|role| !remove.contains(role)).chain(&add);
                let all: Vec<&String> =
                    if !roles.is_empty() { roles.iter().collect() } else { kept.collect() };
                if none { Vec::new() } else { without_repeats(all) }
            })?;
            writeln!(console.output, "{}", now.join(","))?;
            if changes {
                writeln!(console.notes, "these are the roles of {name} now; {EFFECT_NOTE}")?;
            }
            Ok(())
        }
        EditCommand::List { json: true } => Ok(writeln!(console.output, "{:#}", json_list(&file.users()?))?),
        EditCommand::List { json: false } => Ok(list(&file.users()?, &mut console.output)?),
    }
}

/// Prints what the sources have for a name: the lookup of a login.
pub(super) fn show(name: &str, settings: &Settings, console: &mut Console<'_>) -> Result<(), UsersError> {
    let name = parse_name(name)?;
    let (users, _) = UserSources::load(&settings.users)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let found = match runtime.block_on(users.find(&name))? {
        NameLookup::Found(found) => found,
        NameLookup::Unusable { source, why } => {
            return Err(UsersError::Unusable { name, origin: source, why });
        }
        NameLookup::Absent => {
            let names = settings.users.sources.iter().map(|source| source.name.as_str());
            return Err(UsersError::Unknown(name, names.collect::<Vec<_>>().join(", ")));
        }
    };
    let user = &found.user;
    let password = match &user.credential {
        Credential::Hash(hash) => hash.scheme().to_string(),
        Credential::Bind { dn, .. } => format!("verified by a bind as {dn}"),
    };
    let claims = serde_json::Value::Object(user.claims.clone());
    for (label, value) in [
        ("source", found.source.clone()),
        ("name", user.username.clone()),
        ("id", user.id.clone()),
        ("roles", user.roles.join(",")),
        ("claims", claims.to_string()),
        ("state", state(user.disabled).to_owned()),
        ("password", password),
    ] {
        writeln!(console.output, "{label:<9} {value}")?;
    }
    Ok(())
}

fn add(
    file: &UsersFile,
    name: CanonicalName,
    id: Option<String>,
    roles: Vec<String>,
    must_change_password: bool,
    policy: &PasswordPolicy,
    console: &mut Console<'_>,
) -> Result<(), UsersError> {
    // Before the password is prompted for, so that none is typed in vain.
    file.expect_free(&name)?;
    let is_new_file = !file.exists();
    let password = console.new_password(policy, Some(&name))?;
    let id = file.add(NewUser { name: name.clone(), id, password, roles, must_change_password })?;
    let path = file.path().display();
    if is_new_file {
        writeln!(console.notes, "created {path}")?;
    }
    writeln!(console.notes, "added {name} with the id {id} to {path}; {EFFECT_NOTE}")?;
    Ok(())
}

fn passwd(
    file: &UsersFile,
    name: &str,
    must_change: bool,
    policy: &PasswordPolicy,
    console: &mut Console<'_>,
) -> Result<(), UsersError> {
    let name = parse_name(name)?;
    file.expect(&name)?;
    let password = console.new_password(policy, Some(&name))?;
    file.set_password(&name, &password, must_change)?;
    writeln!(console.notes, "{name} has a new password; {EFFECT_NOTE}")?;
    Ok(())
}

fn set_disabled(
    file: &UsersFile,
    name: &str,
    disabled: bool,
    console: &mut Console<'_>,
) -> Result<(), UsersError> {
    let name = parse_name(name)?;
    let changed = file.set_disabled(&name, disabled)?;
    let state = state(disabled);
    match changed {
        true => writeln!(console.notes, "{name} is {state} now; {EFFECT_NOTE}")?,
        false => writeln!(console.notes, "{name} was {state} already")?,
    }
    Ok(())
}

/// Unlocks a name.
pub(super) fn unlock(name: &str, settings: &Settings, console: &mut Console<'_>) -> Result<(), UsersError> {
    let name = parse_name(name)?;
    match control(settings, ControlCommand::Unlock(name.to_string()))? {
        ControlResponse::Unlocked(true) => writeln!(console.notes, "{name} is unlocked")?,
        _ => writeln!(console.notes, "{name} was not locked; failures that were counted are forgotten")?,
    }
    Ok(())
}

/// Ends all sessions of a user.
pub(super) fn logout(name: &str, settings: &Settings, console: &mut Console<'_>) -> Result<(), UsersError> {
    let name = parse_name(name)?;
    let ended = match control(settings, ControlCommand::Logout(name.to_string()))? {
        ControlResponse::Ended(ended) => ended,
        _ => 0,
    };
    writeln!(console.notes, "{name} is logged out; sessions ended: {ended}")?;
    Ok(())
}

/// Removes the second factor of a user.
pub(super) fn reset_mfa(
    name: &str,
    settings: &Settings,
    console: &mut Console<'_>,
) -> Result<(), UsersError> {
    let name = parse_name(name)?;
    match control(settings, ControlCommand::ResetMfa(name.to_string()))? {
        ControlResponse::Removed(true) => writeln!(console.notes, "{name} has no second factor any more")?,
        _ => writeln!(console.notes, "{name} had no second factor")?,
    }
    Ok(())
}

/// Prints a link for a new password.
pub(super) fn reset(
    name: &str,
    ttl: Option<Duration>,
    settings: &Settings,
    console: &mut Console<'_>,
) -> Result<(), UsersError> {
    let name = parse_name(name)?;
    let page = settings.reset_page().ok_or(UsersError::NoResetPage)?;
    let ttl = ttl.unwrap_or(settings.users.reset_ttl);
    let millis = crate::clock::millis(ttl);
    if let ControlResponse::Ticket(token) =
        control(settings, ControlCommand::Reset(name.to_string(), millis))?
    {
        writeln!(console.output, "{page}?token={token}")?;
        let ttl = humantime::format_duration(ttl);
        writeln!(
            console.notes,
            "{name} can set a new password by this link, once, within {ttl}; pass it on safely"
        )?;
    }
    Ok(())
}

fn without_repeats(roles: Vec<&String>) -> Vec<String> {
    let mut once: Vec<String> = Vec::new();
    for role in roles {
        if !once.contains(role) {
            once.push(role.clone());
        }
    }
    once
}

fn json_list(users: &[User]) -> serde_json::Value {
    let object = |user: &User| {
        serde_json::json!({
            "name": user.username, "id": user.id, "roles": user.roles, "disabled": user.disabled, "claims": user.claims,
        })
    };
    users.iter().map(object).collect()
}

fn list(users: &[User], output: &mut dyn Write) -> io::Result<()> {
    let heading = ["NAME", "ID", "ROLES", "STATE"].map(str::to_owned);
    let entry = |user: &User| {
        let state = state(user.disabled).to_owned();
        [user.username.clone(), user.id.clone(), user.roles.join(","), state]
    };
    let rows: Vec<[String; 4]> = std::iter::once(heading).chain(users.iter().map(entry)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (name_width, id_width, roles_width) = (width(0), width(1), width(2));
    for [name, id, roles, state] in &rows {
        writeln!(output, "{name:name_width$}  {id:id_width$}  {roles:roles_width$}  {state}")?;
    }
    Ok(())
}

fn state(disabled: bool) -> &'static str {
    if disabled { "disabled" } else { "enabled" }
}

fn parse_name(raw: &str) -> Result<CanonicalName, UsersError> {
    CanonicalName::parse(raw).ok_or_else(|| UsersError::NotAName(raw.to_owned()))
}

/// Why a users command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum UsersError {
    /// The argument is not a valid user name.
    #[error("{0:?} is no user name: {rule}", rule = CanonicalName::RULE)]
    NotAName(String),
    /// The users file was not read or not changed.
    #[error(transparent)]
    File(#[from] EditError),
    /// There is no new password.
    #[error(transparent)]
    Password(#[from] NewPasswordError),
    /// Neither the running gateway nor the store could execute it.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// There is no users file.
    #[error(
        "[users] names no file of `kind = \"file\"`, and only such a file is edited here; edit users where they are kept"
    )]
    NoFile,
    /// There is nowhere a link could lead to.
    #[error(
        "a link leads to the page for new passwords, and there is none: turn on `users.password_change` and `browser.enabled`, \
         with `tokens.issuer` as the gateway's public address, or write the address of a page of your own as `users.reset_url`"
    )]
    NoResetPage,
    /// A source is invalid.
    #[error("{0}")]
    Sources(#[from] UserFileErrors),
    /// A source is unavailable.
    #[error("{0}")]
    Unavailable(#[from] SourceUnavailable),
    /// A source has the name, with what no one can log in by.
    #[error("{origin} has {name}, who cannot log in: {why}")]
    Unusable {
        /// The name.
        name: CanonicalName,
        /// The source.
        origin: String,
        /// The reason.
        why: String,
    },
    /// No source has the name.
    #[error("no source has a user {0}; they were queried in this order: {1}")]
    Unknown(CanonicalName, String),
    /// The output could not be written.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::*;
    use crate::users::{HashingPool, Password, check_credentials};

    struct CommandOutput {
        output: String,
        notes: String,
    }

    /// Runs a command line with `input` as standard input.
    fn users(file: &Path, line: &str, input: &str) -> Result<CommandOutput, UsersError> {
        #[derive(Parser)]
        struct UserRow {
            #[command(subcommand)]
            command: EditCommand,
        }
        let words = std::iter::once("users").chain(line.split(' '));
        let command = UserRow::try_parse_from(words).unwrap().command;
        let (mut output, mut notes) = (Vec::new(), Vec::new());
        let settings = crate::config::test_support::settings(crate::config::test_support::minimal()).users;
        run(command, file, &settings, &mut Console::scripted(input.as_bytes(), &mut output, &mut notes))?;
        Ok(CommandOutput {
            output: String::from_utf8(output).unwrap(),
            notes: String::from_utf8(notes).unwrap(),
        })
    }

    fn may_log_in(file: &Path, name: &str, password: &str) -> bool {
        let (users, _) = UserSources::load(&crate::config::Users::of_file(file.to_owned())).unwrap();
        let pool = HashingPool::new(1, 1);
        let name = CanonicalName::for_lockout(name);
        let attempt = check_credentials(&users, &pool, &name, Password::new(password).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(attempt).unwrap().is_ok()
    }

    #[test]
    fn a_user_is_added_changed_shut_out_and_let_in_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = &folder.path().join("users.toml");

        let output =
            users(file, "add Alice --id 7 --role user,admin --role x", "a first password\n").unwrap();
        let path = file.display();
        assert_eq!(
            output.notes,
            format!("created {path}\nadded alice with the id 7 to {path}; {EFFECT_NOTE}\n")
        );
        assert!(may_log_in(file, "alice", "a first password"));
        let added = &UsersFile::new(file).users().unwrap()[0];
        assert_eq!((added.id.as_str(), added.roles.join(" ")), ("7", "user admin x".to_owned()));

        users(file, "passwd ALICE", "another password\n").unwrap();
        assert!(!may_log_in(file, "alice", "a first password"));
        assert!(may_log_in(file, "alice", "another password"));

        assert_eq!(
            users(file, "disable alice", "").unwrap().notes,
            format!("alice is disabled now; {EFFECT_NOTE}\n")
        );
        assert_eq!(users(file, "disable alice", "").unwrap().notes, "alice was disabled already\n");
        assert!(!may_log_in(file, "alice", "another password"));

        assert_eq!(
            users(file, "enable alice", "").unwrap().notes,
            format!("alice is enabled now; {EFFECT_NOTE}\n")
        );
        assert!(may_log_in(file, "alice", "another password"));
    }

    #[test]
    fn list_prints_a_table_in_the_order_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = &folder.path().join("users.toml");
        users(file, "add zoë@example.org --id 10 --role user", "a first password\n").unwrap();
        users(file, "add bob --id 9 --role user,admin", "a first password\n").unwrap();
        users(file, "disable bob", "").unwrap();
        let table = "\
NAME             ID  ROLES       STATE
zoë@example.org  10  user        enabled
bob              9   user,admin  disabled
";
        assert_eq!(users(file, "list", "").unwrap().output, table);
    }

    #[test]
    fn a_refused_password_leaves_no_file_behind() {
        let folder = tempfile::tempdir().unwrap();
        let file = &folder.path().join("users.toml");
        for password in ["", "short\n", "password123\n", "alice.liddell\n"] {
            assert!(matches!(users(file, "add alice.liddell", password), Err(UsersError::Password(_))));
        }
        assert!(!file.exists());
    }

    #[test]
    fn a_short_password_is_taken_with_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let output = users(&folder.path().join("users.toml"), "add alice", "ksd8 jf2\n").unwrap();
        assert!(output.notes.starts_with("warning: the password has 8 characters"), "{}", output.notes);
    }

    #[test]
    fn errors_name_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = &folder.path().join("users.toml");
        let error = |line| users(file, line, "").err().unwrap().to_string();
        assert!(error("list").contains("the users file does not exist; "));
        users(file, "add alice", "a first password\n").unwrap();
        assert!(error("add alice").contains("exists already; `auth-gateway users passwd alice`"));
        assert!(error("passwd alic").contains("(did you mean alice?)"));
        assert!(error("disable a/b").contains("\"a/b\" is no user name: a user name has"));
    }
}
