//! Users: sources (files, SQL tables, directories), canonical user names, and password hashing in a bounded
//! pool.
//!
//! A login is one call, [`check_credentials`]. This domain knows nothing of HTTP, tokens, sessions or locks.

mod breached_passwords;
mod change_password;
mod credentials;
mod diagnostic;
mod edit;
mod file;
mod file_accounts;
mod hashing_pool;
mod htpasswd;
mod ldap;
mod name;
mod new_password;
mod password;
mod password_hash;
mod remote;
pub(crate) mod replace_file;
mod sources;
mod sql;
mod sql_listener;
mod user_entry;
mod user_store;
mod watched_directory;

pub use change_password::{ChangePasswordError, PasswordChange};
pub use credentials::{CheckError, LoginFailure, check_credentials};
pub use diagnostic::{UserFileDiagnostic, UserFileErrors, UserFileWarning};
pub use edit::{EditError, NewUser, UsersFile};
pub(crate) use file_accounts::FileAccounts;
pub use hashing_pool::{Busy, HashingPool};
pub use name::CanonicalName;
pub use new_password::{NewPasswordAdvice, NewPasswordRefusal, check_new_password};
pub use password::{MAX_PASSWORD_BYTES, Password, PasswordTooLong};
pub use password_hash::{
    HashCost, HashFailed, PasswordHash, PasswordHashError, Pbkdf2Digest, Prehash, Scheme,
};
pub use remote::SourceUnavailable;
pub use sources::{FoundUser, NameLookup, UserSources};
pub(crate) use sql_listener::Changed;
pub use user_store::{Credential, User};
pub use watched_directory::ReloadOutcome;
