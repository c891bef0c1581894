//! Noise: other programs on the two cores. A disturbed measurement is repeated.

use std::time::{Duration, Instant};

use crate::Result;
use crate::gauge;
use crate::lab::{Lab, Running};
use crate::machine::{LOAD_CORE, PROXY_CORE};

/// What others may have of the two cores, as a share, before a measurement is made again.
pub(crate) const BEARABLE: f64 = 0.05;
const ATTEMPTS: u32 = 3;

/// Measures something, again if it was disturbed and as long as there is hope. `proxy` is what runs, if anything.
pub(crate) fn undisturbed<T>(
    lab: &Lab,
    proxy: Option<&Running>,
    mut measure: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut attempt = 1;
    loop {
        let watch = Watch::start(lab, proxy)?;
        let measured = measure()?;
        let share = watch.share_of_others()?;
        if share <= BEARABLE || lab.options.train || attempt == ATTEMPTS {
            lab.note_disturbance(share);
            return Ok(measured);
        }
        eprintln!("    others had {:.0} % of the two cores: once more", share * 100.0);
        attempt += 1;
    }
}

/// What was used of the two cores, and by whom.
struct Watch<'a> {
    lab: &'a Lab,
    proxy: Option<&'a Running>,
    begin: Instant,
    others: Duration,
}

impl<'a> Watch<'a> {
    fn start(lab: &'a Lab, proxy: Option<&'a Running>) -> Result<Watch<'a>> {
        Ok(Watch { lab, proxy, begin: Instant::now(), others: others(lab, proxy)? })
    }

    fn share_of_others(&self) -> Result<f64> {
        let used = others(self.lab, self.proxy)?.saturating_sub(self.others);
        Ok(used.as_secs_f64() / self.begin.elapsed().as_secs_f64() / 2.0)
    }
}

/// CPU time on both cores that was neither the proxy's nor the upstream's nor that of this program and its children.
fn others(lab: &Lab, proxy: Option<&Running>) -> Result<Duration> {
    let all = gauge::busy_time(PROXY_CORE)? + gauge::busy_time(LOAD_CORE)?;
    let mut ours = gauge::own_time()? + gauge::cpu_time(lab.upstream_group())?;
    if let Some(proxy) = proxy {
        ours += gauge::cpu_time(proxy.group())?;
    }
    Ok(all.saturating_sub(ours))
}
