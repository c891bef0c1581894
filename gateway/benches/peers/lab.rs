//! The lab: folders, ports, the upstream, and the systems that are started one after the other.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::Result;
use crate::certificate::Certificate;
use crate::http::{self, Client};
use crate::machine::PROXY_CORE;
use crate::options::Options;
use crate::peers::{Setup, System, upstream};
use crate::process::Process;
use crate::table::Samples;
use crate::tokens;
use crate::tools::Tools;

/// How long a system may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_micros(300);

/// Everything that stays the same during the run.
pub(crate) struct Lab {
    pub(crate) options: Options,
    pub(crate) tools: Tools,
    /// `target/bench`.
    pub(crate) dir: PathBuf,
    pub(crate) secret: String,
    /// The address of the upstream.
    pub(crate) upstream: SocketAddr,
    upstream_process: Process,
    certificate: OnceCell<Certificate>,
    /// Which share of the two cores others had, in each measurement.
    disturbances: RefCell<Vec<f64>>,
    /// Why a system is left out, by its label.
    left_out: RefCell<BTreeMap<String, String>>,
    /// What was started, in order, for the report.
    started: RefCell<Vec<Started>>,
}

/// A system as the report names it.
#[derive(Clone)]
pub(crate) struct Started {
    pub(crate) system: System,
    pub(crate) command: String,
}

/// A system that is configured and can be started, more than once.
pub(crate) struct Prepared<'a> {
    lab: &'a Lab,
    system: System,
    dir: PathBuf,
    address: SocketAddr,
    certificate: Option<&'a Certificate>,
    command: Command,
}

/// A system that runs and answers.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    tls: bool,
    /// From before it was started to its first 200.
    pub(crate) ready_after: Duration,
    /// Opens every door.
    pub(crate) token: String,
    process: Process,
}

impl Running {
    /// What the load asks for.
    pub(crate) fn url(&self) -> String {
        format!("http{}://{}/", if self.tls { "s" } else { "" }, self.address)
    }

    /// Its processes, for the gauges.
    pub(crate) fn group(&self) -> u32 {
        self.process.group()
    }
}

impl Lab {
    pub(crate) fn set_up(options: Options) -> Result<Lab> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("no target folder")?;
        let tools = Tools::find(&options, target);
        tools.required("wrk")?;
        let dir = target.join("bench");
        let upstream = free_address()?;
        let setup = Setup {
            dir: &fresh(&dir.join("upstream"))?,
            listen: upstream,
            admin: upstream,
            upstream,
            certificate: None,
            secret: "",
            tools: &tools,
        };
        let mut process = Process::start(&mut upstream::command(&setup)?, &setup.dir.join("log"))?;
        wait_until_ready(&mut process, || Client::connect(upstream), &http::get(upstream, ""))
            .map_err(|e| format!("the upstream: {e}"))?;
        Ok(Lab {
            options,
            tools,
            dir,
            secret: tokens::secret()?,
            upstream,
            upstream_process: process,
            certificate: OnceCell::new(),
            disturbances: RefCell::default(),
            left_out: RefCell::default(),
            started: RefCell::default(),
        })
    }

    /// Measures each system in turn, in every round. A peer that fails is left out of the rounds that follow.
    pub(crate) fn each(
        &self,
        systems: &[System],
        mut measure: impl FnMut(u32, System) -> Result<()>,
    ) -> Result<()> {
        let mut systems = systems.to_vec();
        for round in 1..=self.options.rounds {
            for system in systems.clone() {
                let label = system.label();
                eprintln!("  round {round}: {label}");
                match (measure(round, system), system) {
                    (Ok(()), _) => {}
                    (Err(e), System::Gateway(_)) => return Err(format!("{label}: {e}").into()),
                    (Err(e), _) => {
                        eprintln!("  {label} is left out: {e}");
                        systems.retain(|&other| other != system);
                        self.left_out.borrow_mut().insert(label, e.to_string());
                    }
                }
            }
            // Reversed each round, so that drift over time affects all systems alike.
            systems.reverse();
        }
        Ok(())
    }

    /// Starts a system before the usual upstream, on the proxy's core, and waits until it answers.
    pub(crate) fn start(&self, system: System) -> Result<Running> {
        self.prepare(system, self.upstream, PROXY_CORE)?.start()
    }

    /// The same, over TLS.
    pub(crate) fn start_tls(&self, system: System) -> Result<Running> {
        let certificate = self.certificate()?;
        self.configure(system, self.upstream, PROXY_CORE, Some(certificate))?.start()
    }

    /// Configures a system before any upstream, on any cores.
    pub(crate) fn prepare(&self, system: System, upstream: SocketAddr, cores: &str) -> Result<Prepared<'_>> {
        self.configure(system, upstream, cores, None)
    }

    fn configure<'a>(
        &'a self,
        system: System,
        upstream: SocketAddr,
        cores: &str,
        certificate: Option<&'a Certificate>,
    ) -> Result<Prepared<'a>> {
        let dir = fresh(&self.dir.join("system"))?;
        let address = free_address()?;
        let setup = Setup {
            dir: &dir,
            listen: address,
            admin: free_address()?,
            upstream,
            certificate,
            secret: &self.secret,
            tools: &self.tools,
        };
        let command = system.command(&setup)?;
        self.remember(system, cores, &command);
        let command = pinned(cores, &command);
        Ok(Prepared { lab: self, system, dir, address, certificate, command })
    }

    /// Made when it is first asked for.
    fn certificate(&self) -> Result<&Certificate> {
        if let Some(certificate) = self.certificate.get() {
            return Ok(certificate);
        }
        let dir = fresh(&self.dir.join("tls"))?;
        let certificate = Certificate::create(self.tools.required("openssl")?, &dir)?;
        Ok(self.certificate.get_or_init(|| certificate))
    }

    fn remember(&self, system: System, cores: &str, command: &Command) {
        let mut started = self.started.borrow_mut();
        if started.iter().all(|before| before.system.label() != system.label()) {
            let program = Path::new(command.get_program()).file_name().unwrap_or_default();
            let words: Vec<_> =
                [program].into_iter().chain(command.get_args()).map(|word| word.to_string_lossy()).collect();
            let target = self.dir.parent().map_or_else(String::new, |target| target.display().to_string());
            let command = format!("taskset -c {cores} {}", words.join(" ")).replace(&target, "target");
            started.push(Started { system, command });
        }
    }

    /// The upstream's processes, for the gauges.
    pub(crate) fn upstream_group(&self) -> u32 {
        self.upstream_process.group()
    }

    /// Keeps which share of the two cores others had during a measurement.
    pub(crate) fn note_disturbance(&self, share: f64) {
        self.disturbances.borrow_mut().push(share);
    }

    /// What others had of the two cores, over all measurements.
    pub(crate) fn disturbances(&self) -> Option<Samples> {
        Samples::new(self.disturbances.borrow().clone())
    }

    /// What was started so far.
    pub(crate) fn started(&self) -> Vec<Started> {
        self.started.borrow().clone()
    }

    /// Who was left out, and why.
    pub(crate) fn left_out(&self) -> BTreeMap<String, String> {
        self.left_out.borrow().clone()
    }
}

impl Prepared<'_> {
    /// Starts the system and waits until it answers.
    pub(crate) fn start(&mut self) -> Result<Running> {
        let begin = Instant::now();
        let mut process = Process::start(&mut self.command, &self.dir.join("log"))?;
        let token = match self.system {
            System::Gateway(variant) if !variant.shares_a_secret() => {
                wait(&mut process, || self.connect().map(drop))?;
                self.connect()?.login(0)?.member("access_token")?
            }
            _ => tokens::mint(&self.lab.secret, 1)?,
        };
        wait_until_ready(&mut process, || self.connect(), &http::get(self.address, &token))?;
        let tls = self.certificate.is_some();
        Ok(Running { address: self.address, tls, ready_after: begin.elapsed(), token, process })
    }

    fn connect(&self) -> Result<Client> {
        match self.certificate {
            Some(certificate) => Client::connect_tls(self.address, certificate),
            None => Client::connect(self.address),
        }
    }
}

/// An empty folder.
fn fresh(dir: &Path) -> Result<PathBuf> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir).map_err(|e| format!("cannot make {}: {e}", dir.display()))?;
    Ok(dir.to_owned())
}

/// A free port below the ephemeral ones.
fn free_address() -> Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if port >= 32_000 {
            return Err("no free port between 20000 and 32000".into());
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
}

/// The same command, bound to cores.
fn pinned(cores: &str, command: &Command) -> Command {
    let mut pinned = Command::new("taskset");
    pinned.args(["-c", cores]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        pinned.env(name, value.unwrap_or_default());
    }
    if let Some(dir) = command.get_current_dir() {
        pinned.current_dir(dir);
    }
    pinned
}

fn wait_until_ready(
    process: &mut Process,
    connect: impl Fn() -> Result<Client>,
    request: &str,
) -> Result<()> {
    wait(process, || match connect()?.send(request.as_bytes())?.status {
        200 => Ok(()),
        status => Err(format!("it answers {status}").into()),
    })
}

fn wait(process: &mut Process, mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
    let end = Instant::now() + READY_WITHIN;
    loop {
        let Err(error) = attempt() else { return Ok(()) };
        process.check()?;
        if Instant::now() > end {
            return Err(format!("not ready in time: {error}\n{}", process.last_words()).into());
        }
        std::thread::sleep(POLL);
    }
}
