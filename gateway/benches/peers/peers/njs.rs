//! nginx that verifies JWTs in its own JavaScript (njs).

use std::fs;
use std::process::Command;

use super::Setup;
use super::nginx::{PASS, Site, app, start};
use crate::Result;

pub(super) fn command(setup: &Setup<'_>) -> Result<Command> {
    let module =
        setup.tools.njs().ok_or("njs is needed: install it (`apt-get install libnginx-mod-http-js`)")?;
    let script = include_str!("verify.js").replace("SECRET", setup.secret);
    fs::write(setup.dir.join("verify.js"), script)?;
    let http = format!(
        "
    js_path {};
    js_import verify from verify.js;
    js_set $auth_user verify.user;
    {}",
        setup.dir.display(),
        app(setup)
    );
    let location = format!(
        r#"
            if ($auth_user = "") {{ return 401; }}
            proxy_set_header X-Auth-User $auth_user;{PASS}"#
    );
    let main = format!("load_module {};", module.display());
    start(setup, &Site { main, http, location })
}
