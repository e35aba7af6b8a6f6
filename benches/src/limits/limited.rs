//! A server within its limits, and the measurement of what it uses.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};
use upload_sandbox::process::Server;

use super::group::{Gauges, Group};
use crate::{
    record::{MemorySample, Usage},
    usage::{self, CpuTime},
};

/// How often memory is sampled.
const SAMPLE_EVERY: Duration = Duration::from_millis(50);

/// How long a server may take to stop after SIGTERM. Ours give uploads in flight 25 seconds.
const LONGEST_STOP: Duration = Duration::from_secs(30);

/// A running server with 1 CPU and, with cgroups, 1 GiB. Dropping it kills it and its children.
#[derive(Debug)]
pub struct Limited {
    /// Before the group, so that it is dropped first.
    server: Server,
    meter: Meter,
    measured: Arc<Mutex<Measured>>,
    sampler: Mutex<Option<JoinHandle<()>>>,
    /// CPU time at [`Limited::reset`].
    before: Mutex<CpuTime>,
    _group: Option<Group>,
}

/// Where the figures come from.
#[derive(Debug, Clone)]
struct Meter {
    process_group: u32,
    gauges: Option<Gauges>,
}

/// The measurements since the reset. The last ones are kept, because a process that ends takes its counters with it.
#[derive(Debug, Default)]
struct Measured {
    samples: Vec<MemorySample>,
    peak_rss_bytes: u64,
    peak_cgroup_bytes: u64,
    cpu: CpuTime,
}

impl Limited {
    pub(super) fn new(server: Server, group: Option<Group>) -> Self {
        let meter = Meter { process_group: server.id(), gauges: group.as_ref().map(|group| group.gauges().clone()) };
        Self {
            server,
            meter,
            measured: Arc::default(),
            sampler: Mutex::default(),
            before: Mutex::default(),
            _group: group,
        }
    }

    /// Its URL, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.server.url
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.server.id()
    }

    /// Its log so far, by line.
    pub fn log(&self) -> Vec<String> {
        self.server.log()
    }

    /// Starts to count from now, and samples the memory until [`Limited::usage`]. Call it in a tokio runtime, right before the first
    /// image is released.
    ///
    /// # Errors
    /// Where the counters cannot be read.
    pub fn reset(&self) -> Result<()> {
        self.stop_sampler();
        *lock(&self.measured) = Measured::default();
        self.meter.reset_peaks();
        let started = Instant::now();
        *lock(&self.before) = self.meter.cpu()?.unwrap_or_default();
        self.meter.look(&self.measured, started);
        let (meter, measured) = (self.meter.clone(), Arc::clone(&self.measured));
        let sampler = tokio::spawn(async move {
            let mut ticks = interval(SAMPLE_EVERY);
            // A late sample has its own time; several samples at once are useless.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            // The first tick comes at once.
            ticks.tick().await;
            loop {
                ticks.tick().await;
                meter.look(&measured, started);
            }
        });
        *lock(&self.sampler) = Some(sampler);
        Ok(())
    }

    /// What was used since [`Limited::reset`], also after the server's end. It stops the sampling.
    ///
    /// # Errors
    /// Where the counters cannot be read.
    pub fn usage(&self) -> Result<Usage> {
        self.stop_sampler();
        let cpu_of_group = self.meter.cpu()?;
        let before = *lock(&self.before);
        let mut measured = lock(&self.measured);
        measured.look_at_peaks(&self.meter);
        let cpu = cpu_of_group.unwrap_or(measured.cpu);
        Ok(Usage {
            cpu_user_ms: (cpu.user_ms - before.user_ms).max(0.0),
            cpu_system_ms: (cpu.system_ms - before.system_ms).max(0.0),
            peak_rss_bytes: measured.peak_rss_bytes,
            peak_cgroup_bytes: self.meter.gauges.is_some().then_some(measured.peak_cgroup_bytes),
            memory: std::mem::take(&mut measured.samples),
        })
    }

    /// Waits for the server's end, and says how it ended: exit code or signal, and whether it was killed for memory.
    pub fn ended(&self) -> impl Future<Output = String> + Send + use<> {
        let (ended, meter) = (self.server.ended(), self.meter.clone());
        async move {
            let status = ended.await.map_or_else(|| "unknown status".to_owned(), |status| status.to_string());
            if meter.killed_for_memory() > 0 { format!("{status}, killed for memory") } else { status }
        }
    }

    /// How many of its processes were killed for memory. nginx, for instance, then starts new ones.
    pub fn killed_for_memory(&self) -> u64 {
        self.meter.killed_for_memory()
    }

    /// Kills it and its children, and waits for its end.
    pub async fn kill(&self) {
        self.kill_all();
        self.server.ended().await;
    }

    /// Stops it, and returns all that it used since [`Limited::reset`], also for its work after SIGTERM. Without `ask`, or if it takes
    /// too long, it is killed.
    ///
    /// # Errors
    /// Where the counters cannot be read.
    pub async fn finish(self, ask: bool) -> Result<Usage> {
        // The processes take their peaks with them, and freeing memory at the end belongs to no image.
        let memory = {
            let mut measured = lock(&self.measured);
            measured.look_at_peaks(&self.meter);
            std::mem::take(&mut measured.samples)
        };
        if ask {
            self.server.ask_to_stop();
            if timeout(LONGEST_STOP, self.server.ended()).await.is_err() {
                tracing::warn!(id = self.id(), "a server did not stop after SIGTERM");
            }
        }
        self.kill().await;
        Ok(Usage { memory, ..self.usage()? })
    }

    /// Also processes that left the process group: they may hold the server's output open.
    fn kill_all(&self) {
        self.server.kill();
        for pid in self.meter.processes() {
            // It may have ended meanwhile.
            let _ = i32::try_from(pid).map(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL));
        }
    }

    fn stop_sampler(&self) {
        if let Some(sampler) = lock(&self.sampler).take() {
            sampler.abort();
        }
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        self.stop_sampler();
        self.kill_all();
    }
}

impl Meter {
    fn processes(&self) -> Vec<u32> {
        match &self.gauges {
            Some(gauges) => gauges.processes(),
            None => usage::process_group(self.process_group),
        }
    }

    fn reset_peaks(&self) {
        if let Some(gauges) = &self.gauges {
            gauges.reset_peak();
        }
        self.processes().into_iter().for_each(usage::reset_peak);
    }

    /// CPU time so far. `None` if there is no process any more.
    fn cpu(&self) -> Result<Option<CpuTime>> {
        if let Some(gauges) = &self.gauges {
            return gauges.cpu().map(Some);
        }
        let times = self.processes().into_iter().filter_map(usage::process_cpu);
        Ok(times.reduce(|sum, time| CpuTime {
            user_ms: sum.user_ms + time.user_ms,
            system_ms: sum.system_ms + time.system_ms,
        }))
    }

    fn killed_for_memory(&self) -> u64 {
        self.gauges.as_ref().map_or(0, Gauges::killed_for_memory)
    }

    fn look(&self, measured: &Mutex<Measured>, started: Instant) {
        let at_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Without a cgroup, a process takes its counter with it.
        let cpu = if self.gauges.is_none() { self.cpu().ok().flatten() } else { None };
        let mut measured = lock(measured);
        measured.cpu = cpu.unwrap_or(measured.cpu);
        let (rss_bytes, cgroup_bytes) = measured.look_at_peaks(self);
        measured.samples.push(MemorySample { at_ms, rss_bytes, cgroup_bytes });
    }
}

impl Measured {
    /// Raises the peaks, and returns the memory in use in bytes: resident, and charged to the cgroup.
    fn look_at_peaks(&mut self, meter: &Meter) -> (u64, Option<u64>) {
        let memory: Vec<usage::Memory> = meter.processes().into_iter().filter_map(usage::memory).collect();
        let peaks = memory.iter().map(|memory| memory.peak_bytes).sum();
        self.peak_rss_bytes = self.peak_rss_bytes.max(peaks);
        let charged = meter.gauges.as_ref().and_then(Gauges::memory_bytes);
        let most = meter.gauges.as_ref().and_then(Gauges::peak_bytes).or(charged);
        self.peak_cgroup_bytes = self.peak_cgroup_bytes.max(most.unwrap_or(0));
        (memory.iter().map(|memory| memory.resident_bytes).sum(), charged)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
