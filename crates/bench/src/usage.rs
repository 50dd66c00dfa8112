//! What processes use, as the kernel counts it: processor time and memory. Zero where there is no
//! `/proc`.

use std::fs;

/// Processor time of a process so far, in seconds.
pub fn processor_seconds(pid: u32) -> f64 {
    stat(pid).map_or(0.0, |stat| stat.ticks as f64 / TICKS_PER_SECOND)
}

/// Processor time of a process and its children that live or were waited for, in seconds.
pub fn family_processor_seconds(pid: u32) -> f64 {
    let Ok(processes) = fs::read_dir("/proc") else { return 0.0 };
    let children = processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|child| stat(*child).is_some_and(|stat| stat.parent == pid))
        .map(processor_seconds);
    let gone = stat(pid).map_or(0.0, |stat| stat.ticks_of_the_dead as f64 / TICKS_PER_SECOND);
    processor_seconds(pid) + gone + children.sum::<f64>()
}

/// Resident memory of a process, in bytes.
pub fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1_024
}

/// What Linux calls USER_HZ: 100 on every architecture that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

struct Stat {
    parent: u32,
    ticks: u64,
    ticks_of_the_dead: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses; what follows the last one is numbers.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        ticks: number(11)? + number(12)?,
        ticks_of_the_dead: number(13)? + number(14)?,
    })
}
