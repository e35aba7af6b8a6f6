//! A server within its limits, and what it uses.

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

use super::{
    group::{Gauges, Group},
    samples::Samples,
};
use crate::{
    record::{MemorySample, Usage},
    usage::{self, CpuTime},
};

/// How often memory is looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(50);

/// How long a server may take to stop when it is asked to; ours give uploads in flight 25 seconds.
const LONGEST_STOP: Duration = Duration::from_secs(30);

/// A running server with 1 CPU and, with cgroups, 1 GiB. Dropping it kills it, with all that it started.
#[derive(Debug)]
pub struct Limited {
    /// Before the group: it is waited for first.
    server: Server,
    meter: Meter,
    measured: Arc<Mutex<Measured>>,
    sampler: Mutex<Option<JoinHandle<()>>>,
    /// What there was when [`Limited::reset`] was called.
    before: Mutex<Before>,
    _group: Option<Group>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Before {
    cpu: CpuTime,
    throttled_ms: Option<f64>,
}

/// Where the figures come from.
#[derive(Debug, Clone)]
struct Meter {
    process_group: u32,
    gauges: Option<Gauges>,
}

/// What has been seen since the reset. Processes that end take their figures with them, so the last ones are kept.
#[derive(Debug, Default)]
struct Measured {
    samples: Samples,
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

    /// Where it listens, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.server.url
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.server.id()
    }

    /// What it has logged so far, a line each.
    pub fn log(&self) -> Vec<String> {
        self.server.log()
    }

    /// Lets everything be counted from now, and takes samples of the memory until [`Limited::usage`] is asked for. To be called
    /// within a tokio runtime, right before the first image is released.
    ///
    /// # Errors
    /// Where the counters cannot be read.
    pub fn reset(&self) -> Result<()> {
        self.stop_sampler();
        *lock(&self.measured) = Measured::default();
        self.meter.reset_peaks();
        let started = Instant::now();
        *lock(&self.before) =
            Before { cpu: self.meter.cpu()?.unwrap_or_default(), throttled_ms: self.meter.throttled_ms() };
        self.meter.look(&self.measured, started);
        let (meter, measured) = (self.meter.clone(), Arc::clone(&self.measured));
        let sampler = tokio::spawn(async move {
            let mut ticks = interval(SAMPLE_EVERY);
            // A late sample says when it was taken; several at once would say nothing.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            // The first comes at once.
            ticks.tick().await;
            loop {
                ticks.tick().await;
                meter.look(&measured, started);
            }
        });
        *lock(&self.sampler) = Some(sampler);
        Ok(())
    }

    /// What was used since [`Limited::reset`], also after the server's end; sampling ends.
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
            cpu_user_ms: (cpu.user_ms - before.cpu.user_ms).max(0.0),
            cpu_system_ms: (cpu.system_ms - before.cpu.system_ms).max(0.0),
            throttled_ms: self.meter.throttled_ms().zip(before.throttled_ms).map(|(after, before)| after - before),
            peak_rss_bytes: measured.peak_rss_bytes,
            peak_cgroup_bytes: self.meter.gauges.is_some().then_some(measured.peak_cgroup_bytes),
            memory: measured.samples.take(),
        })
    }

    /// The server's end, in words: exit code or signal, and whether something in it was killed for memory. It waits for as long as
    /// that takes, and does not borrow.
    pub fn ended(&self) -> impl Future<Output = String> + Send + use<> {
        let (ended, meter) = (self.server.ended(), self.meter.clone());
        async move {
            let status = ended.await.map_or_else(|| "its status is not known".to_owned(), |status| status.to_string());
            if meter.killed_for_memory() > 0 { format!("{status}, killed for memory") } else { status }
        }
    }

    /// How many of its processes were killed because the memory was used up; a program such as nginx then goes on with new ones.
    pub fn killed_for_memory(&self) -> u64 {
        self.meter.killed_for_memory()
    }

    /// Kills it, with all that it started, and waits for its end.
    pub async fn kill(&self) {
        self.kill_all();
        self.server.ended().await;
    }

    /// Ends it and tells what it used since [`Limited::reset`], in all: after SIGTERM a server still does what belongs to images that
    /// were answered already. One that is not to be asked, or takes too long, is killed.
    ///
    /// # Errors
    /// Where the counters cannot be read.
    pub async fn finish(self, ask: bool) -> Result<Usage> {
        // The processes take their peaks with them, and how they give their memory back belongs to no image.
        let memory = {
            let mut measured = lock(&self.measured);
            measured.look_at_peaks(&self.meter);
            measured.samples.take()
        };
        if ask {
            self.server.ask_to_stop();
            if timeout(LONGEST_STOP, self.server.ended()).await.is_err() {
                tracing::warn!(id = self.id(), "a server does not stop when it is asked to");
            }
        }
        self.kill().await;
        Ok(Usage { memory, ..self.usage()? })
    }

    /// Also what has left the server's process group: it may hold the server's streams open, whose end is waited for.
    fn kill_all(&self) {
        self.server.kill();
        for pid in self.meter.processes() {
            // Who has ended in between needs no signal.
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

    /// CPU time so far; `None` where there is no process to ask any more.
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

    fn throttled_ms(&self) -> Option<f64> {
        self.gauges.as_ref().and_then(Gauges::throttled_ms)
    }

    fn killed_for_memory(&self) -> u64 {
        self.gauges.as_ref().map_or(0, Gauges::killed_for_memory)
    }

    fn look(&self, measured: &Mutex<Measured>, started: Instant) {
        let at_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Without a cgroup the counters go with the processes.
        let cpu = if self.gauges.is_none() { self.cpu().ok().flatten() } else { None };
        let mut measured = lock(measured);
        measured.cpu = cpu.unwrap_or(measured.cpu);
        let (rss_bytes, cgroup_bytes) = measured.look_at_peaks(self);
        measured.samples.add(MemorySample { at_ms, rss_bytes, cgroup_bytes });
    }
}

impl Measured {
    /// Raises the peaks and answers with what is in use now, in bytes: resident, and what the cgroup is charged for.
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
