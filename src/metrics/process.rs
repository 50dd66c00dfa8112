//! What the process uses, by the names that tools know: read from `/proc` at the moment of a
//! scrape, and left out where there is none.

use std::path::Path;

use super::text::{family_of, line};

/// How many ticks of `/proc` a second has. It is a constant of the interface on all machines that
/// the service is built for, whatever the kernel's own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// What is read of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Usage {
    cpu_s: Option<f64>,
    started_at_s: Option<f64>,
    resident_bytes: Option<f64>,
    virtual_bytes: Option<f64>,
    open_files: Option<f64>,
    max_files: Option<f64>,
}

impl Usage {
    fn read(proc: &Path) -> Usage {
        let own = proc.join("self");
        let text = |path: &str| std::fs::read_to_string(own.join(path)).unwrap_or_default();
        let (stat, status, limits) = (text("stat"), text("status"), text("limits"));
        // The second field is the program's name in parentheses, which may hold anything.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        // By their numbers in the manual, where the first of these is the third.
        let ticks = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<f64>().ok());
        let booted_at_s = || {
            let stat = std::fs::read_to_string(proc.join("stat")).ok()?;
            stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<f64>().ok()
        };
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1_024.0)
        };
        let max_files = || {
            let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
            match soft.split_whitespace().next()? {
                "unlimited" => Some(f64::INFINITY),
                number => number.parse().ok(),
            }
        };
        Usage {
            cpu_s: ticks(14).zip(ticks(15)).map(|(user, system)| (user + system) / TICKS_PER_SECOND),
            started_at_s: ticks(22).zip(booted_at_s()).map(|(ticks, booted)| booted + ticks / TICKS_PER_SECOND),
            resident_bytes: kilobytes("VmRSS:"),
            virtual_bytes: kilobytes("VmSize:"),
            open_files: count_files(&own.join("fd")),
            max_files: max_files(),
        }
    }
}

/// Newer kernels say how many there are; in older ones they are counted one by one.
fn count_files(folder: &Path) -> Option<f64> {
    let said = std::fs::metadata(folder).ok()?.len();
    // Counting opens the folder itself.
    let count = || Some((std::fs::read_dir(folder).ok()?.count() as u64).saturating_sub(1));
    Some(if said > 0 { said } else { count()? } as f64)
}

/// Its lines.
pub(super) fn render(text: &mut String) {
    let usage = Usage::read(Path::new("/proc"));
    for (name, kind, help, value) in [
        ("process_cpu_seconds_total", "counter", "Processor time used by this process.", usage.cpu_s),
        ("process_resident_memory_bytes", "gauge", "Memory of this process that is resident.", usage.resident_bytes),
        ("process_virtual_memory_bytes", "gauge", "Virtual memory of this process.", usage.virtual_bytes),
        ("process_open_fds", "gauge", "Files and connections that this process has open.", usage.open_files),
        ("process_max_fds", "gauge", "The most of them that it may have.", usage.max_files),
        ("process_start_time_seconds", "gauge", "When it started, in seconds since 1970.", usage.started_at_s),
    ] {
        let Some(value) = value else { continue };
        family_of(text, name, kind, help);
        if value.is_infinite() {
            line(text, format_args!("{name} +Inf"));
        } else {
            line(text, format_args!("{name} {value}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_process_uses_is_read_whatever_its_name_is() {
        let proc = std::env::temp_dir().join(format!("cf-proc-{}", std::process::id()));
        let own = proc.join("self");
        std::fs::create_dir_all(own.join("fd")).expect("it can be made");
        let write = |path: &Path, text: &str| std::fs::write(path, text).expect("it can be written");
        write(
            &own.join("stat"),
            "7 (a) b 1) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 4 0 12345 1000000 200 18446744073709551615\n",
        );
        write(&own.join("status"), "Name:\ta) b\nVmSize:\t   2048 kB\nVmRSS:\t    1024 kB\n");
        write(&own.join("limits"), "Limit  Soft  Hard\nMax open files            1024                 4096    files\n");
        write(&proc.join("stat"), "cpu 1 2 3\nbtime 1000000\n");
        let usage = Usage::read(&proc);
        assert_eq!((usage.cpu_s, usage.started_at_s), (Some(3.0), Some(1_000_123.45)));
        assert_eq!((usage.virtual_bytes, usage.resident_bytes), (Some(2_097_152.0), Some(1_048_576.0)));
        assert_eq!(usage.max_files, Some(1_024.0));
        std::fs::remove_dir_all(&proc).expect("it is ours");
        assert_eq!(Usage::read(&proc), Usage::default(), "where there is none, nothing is said");
    }

    #[test]
    fn files_are_counted_that_are_open() {
        let count = || Usage::read(Path::new("/proc")).open_files.expect("there is one");
        let before = count();
        let files: Vec<_> = (0..50).map(|_| std::fs::File::open("/dev/null").expect("it is there")).collect();
        assert!(count() >= before + 20.0, "{before}, and {} with {} more", count(), files.len());
    }
}
