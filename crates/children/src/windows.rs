//! What Windows has for processes that end together: jobs, and what goes with them. All that is
//! unsafe on Windows about processes is in this file.
#![allow(unsafe_code, reason = "the standard library knows no jobs, consoles or names of the system")]

use std::io;
use std::mem::size_of;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle, RawHandle};
use std::ptr::{from_mut, from_ref, null, null_mut};

use windows_sys::Win32::Foundation::{
    DUPLICATE_SAME_ACCESS, DuplicateHandle, ERROR_ALREADY_EXISTS, GetLastError, HANDLE_FLAG_INHERIT,
    INVALID_HANDLE_VALUE, SetHandleInformation, TRUE,
};
use windows_sys::Win32::Media::timeBeginPeriod;
use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, GenerateConsoleCtrlEvent, GetConsoleCP, SetConsoleCtrlHandler,
};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
};
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_BASIC_ACCOUNTING_INFORMATION, JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectBasicAccountingInformation,
    JobObjectExtendedLimitInformation, QueryInformationJobObject, SetInformationJobObject, TerminateJobObject,
};
use windows_sys::Win32::System::Threading::{
    CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW, CREATE_SUSPENDED, CreateMutexW, GetCurrentProcess, HIGH_PRIORITY_CLASS,
    OpenThread, ResumeThread, THREAD_SUSPEND_RESUME,
};

/// How a process is created that [`Job::take_and_let_run`] is for: it does nothing before that, and
/// Ctrl-C in the terminal is not for it.
pub const HELD_GROUP: u32 = CREATE_SUSPENDED | CREATE_NEW_PROCESS_GROUP;

/// How a guardian is created: before others where the processor is busy, and with a console, since
/// without one nobody can be asked to end.
pub fn guardian_flags() -> u32 {
    // SAFETY: it takes nothing.
    let has_console = unsafe { GetConsoleCP() } != 0;
    CREATE_NEW_PROCESS_GROUP | HIGH_PRIORITY_CLASS | if has_console { 0 } else { CREATE_NO_WINDOW }
}

/// Processes that end together: who is in it, and all that they start. Nobody gets out of it. When
/// its last handle is closed, all are killed by the kernel; this has the only one.
pub struct Job(OwnedHandle);

impl Job {
    /// One that is empty.
    ///
    /// # Errors
    ///
    /// The system has none.
    pub fn new() -> io::Result<Job> {
        // SAFETY: neither attributes nor a name; the handle is checked, and nobody else has it.
        let job = unsafe { Job(owned(CreateJobObjectW(null(), null()))?) };
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        let size = u32::try_from(size_of_val(&limits)).expect("it is small");
        // SAFETY: the structure is that of its class, and its size is given.
        done(unsafe {
            SetInformationJobObject(
                job.0.as_raw_handle(),
                JobObjectExtendedLimitInformation,
                from_ref(&limits).cast(),
                size,
            )
        })?;
        Ok(job)
    }

    /// Takes a process in, with all that it starts from now on.
    ///
    /// # Errors
    ///
    /// It has ended, or the system does not let it.
    pub fn take(&self, process: RawHandle) -> io::Result<()> {
        // SAFETY: two handles; one that is none is refused.
        done(unsafe { AssignProcessToJobObject(self.0.as_raw_handle(), process) })
    }

    /// Takes a process in that was created as [`HELD_GROUP`], and then lets it run: so nothing that
    /// it starts is outside.
    ///
    /// # Errors
    ///
    /// The same, or it cannot be let run.
    pub fn take_and_let_run(&self, process: RawHandle, id: u32) -> io::Result<()> {
        self.take(process)?;
        let threads = threads_of(id)?;
        if threads.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        for thread in threads {
            // SAFETY: the handle is checked; resuming a thread of a process that was just made
            // touches no memory of ours.
            unsafe {
                let thread = owned(OpenThread(THREAD_SUSPEND_RESUME, 0, thread))?;
                if ResumeThread(thread.as_raw_handle()) == u32::MAX {
                    return Err(io::Error::last_os_error());
                }
            }
        }
        Ok(())
    }

    /// Kills all that are in it.
    pub fn kill(&self) {
        // SAFETY: a handle that is ours. It fails for no job of ours.
        unsafe { TerminateJobObject(self.0.as_raw_handle(), KILLED) };
    }

    /// Whether nobody is in it any more.
    ///
    /// # Errors
    ///
    /// The system does not say.
    pub fn is_empty(&self) -> io::Result<bool> {
        let mut count = JOBOBJECT_BASIC_ACCOUNTING_INFORMATION::default();
        let size = u32::try_from(size_of_val(&count)).expect("it is small");
        // SAFETY: the structure is that of its class, and its size is given.
        done(unsafe {
            QueryInformationJobObject(
                self.0.as_raw_handle(),
                JobObjectBasicAccountingInformation,
                from_mut(&mut count).cast(),
                size,
                null_mut(),
            )
        })?;
        Ok(count.ActiveProcesses == 0)
    }
}

/// The code that somebody ends with whom a job kills.
pub const KILLED: u32 = 137;

fn threads_of(process: u32) -> io::Result<Vec<u32>> {
    // SAFETY: the snapshot is checked, and the entry says its own size.
    unsafe {
        let snapshot = owned(CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0))?;
        let size = u32::try_from(size_of::<THREADENTRY32>()).expect("it is small");
        let mut entry = THREADENTRY32 { dwSize: size, ..THREADENTRY32::default() };
        let mut found = Vec::new();
        let mut is_there = Thread32First(snapshot.as_raw_handle(), &mut entry);
        while is_there != 0 {
            if entry.th32OwnerProcessID == process {
                found.push(entry.th32ThreadID);
            }
            is_there = Thread32Next(snapshot.as_raw_handle(), &mut entry);
        }
        Ok(found)
    }
}

/// Asks a process to end that was created as [`HELD_GROUP`], as Ctrl-Break does.
///
/// # Errors
///
/// This process shares no console with it.
pub fn ask_to_end(id: u32) -> io::Result<()> {
    // SAFETY: two numbers.
    done(unsafe { GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, id) })
}

/// Keeps a handle of ours from those that this process starts.
///
/// # Errors
///
/// It is none.
pub fn keep_to_ourselves(handle: RawHandle) -> io::Result<()> {
    // SAFETY: a handle; one that is none is refused.
    done(unsafe { SetHandleInformation(handle, HANDLE_FLAG_INHERIT, 0) })
}

/// Lets this process, and not those that it starts, go on at Ctrl-C and Ctrl-Break.
///
/// # Errors
///
/// The system does not let it.
pub fn ignore_ctrl() -> io::Result<()> {
    unsafe extern "system" fn handled(_event: u32) -> i32 {
        TRUE
    }
    // SAFETY: the function lives as long as the program, and does nothing.
    done(unsafe { SetConsoleCtrlHandler(Some(handled), TRUE) })
}

/// Has this process woken on the millisecond: else a wait may last a sixtieth of a second longer.
pub fn fine_timers() {
    // SAFETY: a number. Where it is refused, everything is as it was.
    unsafe { timeBeginPeriod(1) };
}

/// Gives a process that handle of ours as one of its own, which it has to be told of.
///
/// # Errors
///
/// Either is gone.
pub fn hand_over(handle: RawHandle, process: RawHandle) -> io::Result<i64> {
    // This number would be taken for that of a process: for this one.
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut given = null_mut();
    // SAFETY: handles; those that are none are refused. What is written is one of the other
    // process, which is never used as one of ours.
    done(unsafe { DuplicateHandle(GetCurrentProcess(), handle, process, &mut given, 0, 0, DUPLICATE_SAME_ACCESS) })?;
    i64::try_from(given.addr()).map_err(io::Error::other)
}

/// A handle that was handed over to this process.
pub fn handed_over(given: i64) -> Option<OwnedHandle> {
    let given = usize::try_from(given).ok().filter(|given| *given != 0)?;
    // SAFETY: it was made for this process by whoever says so, and nobody else has it.
    Some(unsafe { OwnedHandle::from_raw_handle(std::ptr::with_exposed_provenance_mut(given)) })
}

/// A name on this machine, taken for as long as this is kept and its process lives.
pub struct Name(#[expect(dead_code, reason = "it is kept to be kept")] OwnedHandle);

impl Name {
    /// Takes it; `None` where another one has it.
    ///
    /// # Errors
    ///
    /// Another account has it, or it is none.
    pub fn take(name: &str) -> io::Result<Option<Name>> {
        // In all sessions of the machine: a service and whoever is logged on see the same one.
        let wide: Vec<u16> = format!("Global\\{name}").encode_utf16().chain([0]).collect();
        // SAFETY: the name ends with a zero; the handle is checked, and the error is read before
        // anything else is called.
        unsafe {
            let mutex = CreateMutexW(null(), 0, wide.as_ptr());
            let is_another = GetLastError() == ERROR_ALREADY_EXISTS;
            let mutex = owned(mutex)?;
            Ok((!is_another).then_some(Name(mutex)))
        }
    }
}

fn done(result: i32) -> io::Result<()> {
    if result == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// # Safety
///
/// It is a handle that nobody else closes, or what says that there is none.
unsafe fn owned(handle: RawHandle) -> io::Result<OwnedHandle> {
    if handle.is_null() || handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as the caller says.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

#[cfg(test)]
mod tests {
    use std::os::windows::process::CommandExt as _;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    fn waits() -> Child {
        // It starts another one that stays.
        let mut command = Command::new("cmd");
        command.args(["/D", "/C", "ping -n 600 127.0.0.1"]).creation_flags(HELD_GROUP);
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("every Windows has cmd")
    }

    fn within(mut is_so: impl FnMut() -> bool) -> bool {
        let begin = Instant::now();
        while !is_so() {
            if begin.elapsed() > Duration::from_secs(20) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    #[test]
    fn a_job_has_all_that_was_started_and_kills_it() {
        let job = Job::new().expect("there are jobs");
        let mut child = waits();
        assert!(job.is_empty().expect("it is said"));
        job.take_and_let_run(child.as_raw_handle(), child.id()).expect("it runs");
        std::thread::sleep(Duration::from_millis(500));
        assert!(child.try_wait().expect("it is ours").is_none() && !job.is_empty().expect("it is said"));
        job.kill();
        assert!(within(|| job.is_empty().expect("it is said")));
        assert_eq!(child.wait().expect("it is ours").code(), Some(137));
    }

    #[test]
    fn a_job_that_nobody_has_any_more_kills_what_is_in_it() {
        let job = Job::new().expect("there are jobs");
        let mut child = waits();
        job.take_and_let_run(child.as_raw_handle(), child.id()).expect("it runs");
        drop(job);
        assert!(within(|| child.try_wait().expect("it is ours").is_some()));
    }

    #[test]
    fn a_name_is_taken_once_and_free_again_when_it_is_let_go() {
        let name = format!("client-failover-test-{}", std::process::id());
        let first = Name::take(&name).expect("it is a name").expect("nobody has it");
        assert!(Name::take(&name).expect("it is a name").is_none());
        drop(first);
        assert!(Name::take(&name).expect("it is a name").is_some());
    }
}
