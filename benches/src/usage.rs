//! The CPU time and the memory of processes, from proc(5). Linux only.
//!
//! Where there is a cgroup, `limits` reads that instead: its counters outlive the processes.

use std::{fs, path::Path};

/// CPU time is counted in hundredths of a second: `USER_HZ` is 100 wherever Linux runs today (time(7)).
const MS_PER_TICK: f64 = 10.0;

/// CPU time, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CpuTime {
    /// In user mode.
    pub user_ms: f64,
    /// In the kernel.
    pub system_ms: f64,
}

/// Memory of one process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident now (`VmRSS`).
    pub resident_bytes: u64,
    /// The most since the start or the last [`reset_peak`] (`VmHWM`).
    pub peak_bytes: u64,
}

/// The CPU time of a process with all its threads, ended ones included, in milliseconds and in steps of ten. `None` once it has ended.
pub fn process_cpu_ms(pid: u32) -> Option<f64> {
    let CpuTime { user_ms, system_ms } = process_cpu(pid)?;
    Some(user_ms + system_ms)
}

/// The same, separately in user mode and in the kernel.
pub fn process_cpu(pid: u32) -> Option<CpuTime> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Fields 14 and 15.
    Some(CpuTime { user_ms: field(&stat, 14)? * MS_PER_TICK, system_ms: field(&stat, 15)? * MS_PER_TICK })
}

/// CPU time of all CPUs that the hypervisor gave to others since the machine's start, in milliseconds and in steps of ten.
pub fn stolen_ms() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    // The line of all CPUs is the first: its name, then user, nice, system, idle, iowait, irq, softirq and steal.
    Some(stat.lines().next()?.split_whitespace().nth(8)?.parse::<f64>().ok()? * MS_PER_TICK)
}

/// The memory of a process. `None` once it has ended.
pub fn memory(pid: u32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(Memory { resident_bytes: kibibytes(&status, "VmRSS:")?, peak_bytes: kibibytes(&status, "VmHWM:")? })
}

/// Resets the peak of a process (proc(5), `clear_refs`), if it still runs.
pub fn reset_peak(pid: u32) {
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// The processes of a process group.
pub fn process_group(id: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_in_group = |pid: &u32| {
        let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
        stat.ok().and_then(|stat| field(&stat, 5)) == Some(f64::from(id))
    };
    pids.filter(is_in_group).collect()
}

/// A field of `/proc/…/stat`, counted from 1. The second field is the program's name, which may contain anything.
fn field(stat: &str, number: usize) -> Option<f64> {
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_whitespace().nth(number - 3)?.parse().ok()
}

fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_name_may_hold_parentheses_and_spaces() {
        let stat = "7 (a) 1 2 (b) S 1 33 7 0 -1 4194560 5 0 0 0 120 30 0 0 20 0 1 0 100 0 0";
        assert_eq!(field(stat, 5), Some(33.0));
        assert_eq!((field(stat, 14), field(stat, 15)), (Some(120.0), Some(30.0)));
        assert_eq!(field("7 (short)", 14), None);
    }

    #[test]
    fn memory_is_told_in_bytes_and_a_zombie_has_none() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(kibibytes(status, "VmRSS:"), Some(1024 * 1024));
        assert_eq!(kibibytes("Name:\tx\nState:\tZ\n", "VmRSS:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_found_with_its_time_and_memory() {
        let pid = std::process::id();
        assert!(process_cpu_ms(pid).is_some());
        let memory = memory(pid).unwrap_or_default();
        assert!(memory.resident_bytes > 0 && memory.peak_bytes >= memory.resident_bytes);
        assert_eq!(process_cpu_ms(u32::MAX), None);
    }
}
