//! Who may log in: the users file, user names and their one canonical form, and password hashing in a bounded pool.
//!
//! A login is one call, [`check_credentials`]. This domain knows nothing of HTTP, tokens, sessions or locks.

mod credentials;
mod directory;
mod edit;
mod file;
mod finding;
mod hashing_pool;
mod live_directory;
mod name;
mod new_password;
mod password;
mod password_hash;
mod replace_file;
mod user_entry;

pub use credentials::check_credentials;
pub use directory::{Directory, FileDirectory, User};
pub(crate) use directory::{changed_accounts, session_credential};
pub use edit::{EditError, NewUser, UsersFile};
pub use finding::{UserFileErrors, UserFileFinding, UserFileWarning};
pub use hashing_pool::{Busy, HashingPool};
pub use live_directory::{LiveDirectory, Look};
pub use name::CanonicalName;
pub use new_password::{NewPasswordAdvice, NewPasswordRefusal, check_new_password};
pub use password::{MAX_PASSWORD_BYTES, Password, PasswordTooLong};
pub use password_hash::{HashCost, HashFailed, PasswordHash, PasswordHashError};
