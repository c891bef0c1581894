//! The tutorial: an application that checks its tokens itself, with flask-jwt-extended under gunicorn.

use std::fs;
use std::process::Command;

use super::Setup;
use crate::Result;
use crate::tokens::{AUDIENCE, ISSUER};

pub(super) fn command(setup: &Setup<'_>) -> Result<Command> {
    let gunicorn = setup
        .tools
        .path("gunicorn")
        .ok_or("gunicorn is needed: `pip install gunicorn flask-jwt-extended` in the --venv")?;
    fs::write(setup.dir.join("tutorial.py"), include_str!("tutorial.py"))?;
    let mut command = Command::new(gunicorn);
    // A thread keeps connections open, which costs less than the default, a connection for each request.
    command.args(["--workers", "1", "--worker-class", "gthread", "--threads", "1", "--keep-alive", "60"]);
    command.arg("--bind").arg(setup.listen.to_string()).arg("tutorial:app").current_dir(setup.dir);
    command.env("FLASK_JWT_SECRET_KEY", setup.secret);
    command.env("FLASK_JWT_DECODE_ISSUER", ISSUER).env("FLASK_JWT_DECODE_AUDIENCE", AUDIENCE);
    Ok(command)
}
