//! The machine that is measured.

use core_affinity::CoreId;
use halometer_circuits::proof::Workers;

use super::figures::Figures;

/// Says what is measured on.
pub(super) fn describe(figures: &mut Figures) {
    let cores = cores();
    figures.number("cores", cores.len().max(1) as f64);
    let names: Vec<_> = cores.iter().map(|core| core.id.to_string()).collect();
    figures.text("cores_pinned", if names.is_empty() { "none".into() } else { names.join(",") });
    figures.text("cpu", cpu_model().unwrap_or_else(|| "unknown".into()));
    figures.text("pasta_backend", pasta_curves::BACKEND);
}

/// The cores that this process may use; empty where the system does not tell.
fn cores() -> Vec<CoreId> {
    core_affinity::get_core_ids().unwrap_or_default()
}

/// Number of threads for figures of all cores.
pub(super) fn parallelism() -> usize {
    cores().len().max(1)
}

/// `n` threads that share no work, each pinned to a core of its own as far as there are cores.
pub(super) fn pinned_workers(n: usize) -> Result<Workers, Box<dyn std::error::Error>> {
    let workers = Workers::new(n)?;
    let cores = cores();
    if !cores.is_empty() {
        workers.run((0..n).collect(), |part: Vec<usize>| core_affinity::set_for_current(cores[part[0] % cores.len()]));
    }
    Ok(workers)
}

/// Runs `work` with its thread, and those that it starts, on so many cores.
pub(super) fn on_cores<T: Send>(n: usize, work: impl FnOnce() -> T + Send) -> T {
    let cores = cores();
    std::thread::scope(|scope| {
        let run = move || {
            // One core can be named, several cannot; all is what a thread has anyway.
            if n == 1
                && let Some(core) = cores.first()
            {
                core_affinity::set_for_current(*core);
            }
            work()
        };
        match scope.spawn(run).join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn cpu_model() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The most memory that this process has held, in MB of 10^6 bytes; 0 where the system does not tell.
pub(super) fn peak_rss_mb() -> f64 {
    let kib = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    });
    kib.unwrap_or(0.0) * 1024.0 / 1e6
}
