//! Services, which respond to requests: the gateway's own endpoints, static files, redirects, direct
//! responses, and the reverse proxy.

mod audit;
pub(crate) mod cookie_session;
pub(crate) mod endpoints;
mod foreign;
pub(crate) mod forward_auth;
pub(crate) mod handover;
mod jwks;
mod login;
mod logout;
pub(crate) mod machine_credentials;
pub(crate) mod oauth;
mod page_form;
mod password;
mod password_page;
mod password_reset;
pub(crate) mod personal_tokens;
pub(crate) mod proxy;
pub(crate) mod redirect;
mod refresh;
mod second_factor;
mod second_factor_page;
mod sessions;
pub(crate) mod sign_in_page;
mod sign_out_page;
pub(crate) mod static_files;
pub(crate) mod target;
pub(crate) mod token_response;
