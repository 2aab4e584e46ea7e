//! Starts a template: fork+exec, with its descriptors, its process group and its lifeline in place.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;

use super::pidfd::PidFd;
use super::{SysError, failed, lifeline, limits, process, signal, socket};

/// The template's end of its control socket.
pub const CONTROL_FD: RawFd = 3;
/// The read end of the template's lifeline. A worker that it forks closes both.
pub const LIFELINE_FD: RawFd = 4;

/// What systemd says to the supervisor alone: in the application's processes it would let a library speak to systemd
/// in the supervisor's name, or take descriptors for sockets that are something else there.
/// Source: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).
const NOT_FOR_CHILDREN: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
];

/// How a template is started.
#[derive(Debug)]
pub struct TemplateCommand {
    /// The program: a path, or a name to look for in `PATH`.
    pub program: PathBuf,
    /// Its arguments, the program's name not included.
    pub args: Vec<OsString>,
    /// Environment variables beside those of this process.
    pub environment: BTreeMap<String, String>,
    /// Where it runs.
    pub directory: PathBuf,
    /// More descriptors for it, each with the number that it gets: above [`LIFELINE_FD`].
    pub inherit: Vec<(OwnedFd, RawFd)>,
}

/// A template that was started. Dropping it closes its lifeline, which kills it.
#[derive(Debug)]
pub struct Spawned {
    /// Its process id, which is also its process group's.
    pub pid: i32,
    /// Readable when it has ended.
    pub pidfd: PidFd,
    /// Our end of its control socket.
    pub control: OwnedFd,
    /// The write end of its lifeline.
    pub lifeline: OwnedFd,
    /// What it and its children print, until they close it.
    pub stdout: OwnedFd,
    /// The same for standard error.
    pub stderr: OwnedFd,
}

/// Starts a template: descriptor 0 is `/dev/null`, 1 and 2 are pipes, [`CONTROL_FD`] is its control socket,
/// [`LIFELINE_FD`] its lifeline, armed. It leads a process group, with all signals at their defaults.
///
/// The caller reaps it ([`PidFd::wait`]).
pub fn spawn_template(command: &TemplateCommand) -> Result<Spawned, SysError> {
    let (control, control_theirs) = socket::seqpacket_pair()?;
    let (lifeline, lifeline_theirs) = lifeline::pair()?;
    let last = command.inherit.iter().map(|(_, target)| *target).max();
    let first_free = last.unwrap_or(LIFELINE_FD).max(LIFELINE_FD) + 1;
    // Two traps of placing descriptors in the child. One of them may have the number that another is to
    // get: so all are moved above those numbers first. And `Command` reports a failed exec through
    // a pipe of its own, which must not have such a number either: so these are all occupied meanwhile.
    let _occupied = occupy_below(first_free)?;
    let mut placed = vec![
        (above(&control_theirs, first_free)?, CONTROL_FD),
        (above(&lifeline_theirs, first_free)?, LIFELINE_FD),
    ];
    for (fd, target) in &command.inherit {
        placed.push((above(fd, first_free)?, *target));
    }
    let mut child = Command::new(&command.program);
    for variable in NOT_FOR_CHILDREN {
        child.env_remove(variable);
    }
    child
        .args(&command.args)
        .envs(&command.environment)
        .current_dir(&command.directory)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // SAFETY: between fork and exec only system calls are made: no allocation, no lock.
    unsafe { child.pre_exec(move || prepare(&placed)) };
    let mut child = child.spawn().map_err(|source| spawn_error(command, source))?;
    let pid = i32::try_from(child.id()).expect("process ids are positive ints");
    let pipes = child.stdout.take().zip(child.stderr.take());
    let (stdout, stderr) = pipes.expect("both were asked for as pipes");
    Ok(Spawned {
        pid,
        pidfd: PidFd::open(pid)?.expect("nobody reaps our child but us"),
        control,
        lifeline,
        stdout: stdout.into(),
        stderr: stderr.into(),
    })
}

/// The template's side of [`spawn_template`]: its control socket and its lifeline, from now on closed on exec. To be
/// called once, at the start. Fails when this process was not started as a template.
pub fn template_descriptors() -> Result<(OwnedFd, OwnedFd), SysError> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    assert!(
        !TAKEN.swap(true, Ordering::Relaxed),
        "template descriptors taken twice"
    );
    let take = |number: RawFd| -> Result<OwnedFd, SysError> {
        // SAFETY: F_SETFD touches no memory; it proves that the descriptor is open.
        let answer = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        Errno::result(answer).map_err(|errno| SysError::NotATemplate { number, errno })?;
        // SAFETY: it is open, was opened before `main`, and is given out once: see TAKEN.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    };
    Ok((take(CONTROL_FD)?, take(LIFELINE_FD)?))
}

/// Prepares a command to lead a process group of its own, which dies when the write end of `lifeline` is closed,
/// and to start with all signals at their defaults.
///
/// The program inherits the read end, as its children do: the group dies even when the program itself
/// is gone. A program that closes what it inherited still dies with the thread that started it.
pub fn tie_to_lifeline(command: &mut Command, lifeline: OwnedFd) {
    let prepare = move || {
        signal::default_signals().map_err(io_error)?;
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // A duplicate that stays open over the exec. Arming comes last: it notices a parent that died before.
        fcntl(&lifeline, FcntlArg::F_DUPFD(LIFELINE_FD))?;
        lifeline::arm(&lifeline).map_err(io_error)
    };
    // SAFETY: between fork and exec only system calls are made: no allocation, no lock.
    unsafe { command.process_group(0).pre_exec(prepare) };
}

fn io_error(error: SysError) -> io::Error {
    error.errno().unwrap_or(Errno::EPIPE).into()
}

/// In the child, between fork and exec.
fn prepare(placed: &[(OwnedFd, RawFd)]) -> io::Result<()> {
    for (fd, target) in placed {
        // SAFETY: the child owns nothing at the number `target` that it still needs, see `spawn_template`.
        Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), *target) })?;
    }
    signal::default_signals().map_err(io_error)?;
    process::restore_nofile_limit()?;
    let lifeline = placed.iter().find(|(_, target)| *target == LIFELINE_FD);
    lifeline.map_or(Ok(()), |(fd, _)| lifeline::arm(fd).map_err(io_error))
}

/// Opens descriptors until all numbers below `limit` are in use.
fn occupy_below(limit: RawFd) -> Result<Vec<File>, SysError> {
    let mut opened = Vec::new();
    loop {
        let file = File::open("/dev/null").map_err(|error| SysError::Proc {
            path: "/dev/null",
            reason: error.to_string(),
        })?;
        if file.as_raw_fd() >= limit {
            return Ok(opened);
        }
        opened.push(file);
    }
}

/// A duplicate with a number of at least `least`, closed on exec.
fn above(fd: impl AsFd, least: RawFd) -> Result<OwnedFd, SysError> {
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(least)).map_err(failed("fcntl(F_DUPFD_CLOEXEC)"))?;
    // SAFETY: the kernel made this descriptor for us in this call; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

fn spawn_error(command: &TemplateCommand, source: io::Error) -> SysError {
    let program = command.program.clone();
    let reason = if !command.directory.is_dir() {
        format!("its directory `{}` is not there", command.directory.display())
    } else if source.kind() == io::ErrorKind::NotFound && !program.to_string_lossy().contains('/') {
        "no such program in PATH".into()
    } else {
        match source.kind() {
            io::ErrorKind::NotFound => "no such file, or the interpreter in its first line is missing".into(),
            io::ErrorKind::PermissionDenied => "it is not an executable file".into(),
            _ => format!("{source}{}", limits::note_of_start(&source)),
        }
    };
    SysError::Spawn {
        program,
        reason,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::pidfd::Waited;
    use crate::sys::socket::{Received, Wait, recv};
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::io::Read;

    fn shell(script: &str) -> TemplateCommand {
        TemplateCommand {
            program: "sh".into(),
            args: vec!["-c".into(), script.into()],
            environment: BTreeMap::from([("GREETING".into(), "hello".into())]),
            directory: "/".into(),
            inherit: Vec::new(),
        }
    }

    fn ends_with(spawned: &Spawned) -> i32 {
        let mut polled = [PollFd::new(spawned.pidfd.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::from(20_000u16);
        assert_eq!(poll(&mut polled, timeout).unwrap(), 1, "it does not end");
        match spawned.pidfd.wait().unwrap() {
            Waited::Ended(end) => end.status.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn text(fd: OwnedFd) -> String {
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_template_gets_its_descriptors_environment_and_group() {
        let mut command = shell("echo $GREETING; pwd; cat <&7; echo oops >&2; ls -l /proc/self/fd | cat >&3");
        let (extra, mut write) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut write, b"extra\n").unwrap();
        drop(write);
        command.inherit.push((extra.into(), 7));
        let spawned = spawn_template(&command).unwrap();
        let mut buffer = [0; 4096];
        let Received::Packet(len) = recv(&spawned.control, &mut buffer, Wait::Block).unwrap() else {
            panic!("no packet on the control socket");
        };
        let open = String::from_utf8_lossy(&buffer[..len]).into_owned();
        let target_of = |number: &str| {
            let arrow = format!(" {number} -> ");
            let target = open.lines().find_map(|line| line.split_once(&arrow));
            target
                .unwrap_or_else(|| panic!("no descriptor {number}: {open}"))
                .1
        };
        for number in ["3", "4", "7"] {
            let copies = open.matches(target_of(number)).count();
            assert_eq!(copies, 1, "descriptor {number} leaked a copy: {open}");
        }
        assert_eq!(ends_with(&spawned), 0);
        assert_eq!(text(spawned.stdout), "hello\n/\nextra\n");
        assert_eq!(text(spawned.stderr), "oops\n");
    }

    #[test]
    fn a_template_leads_its_group_and_blocks_no_signal() {
        let spawned = spawn_template(&shell(
            "cut -d ' ' -f 5 /proc/$$/stat; grep -E 'SigBlk|SigIgn' /proc/self/status",
        ))
        .unwrap();
        assert_eq!(ends_with(&spawned), 0);
        let text = text(spawned.stdout);
        let words: Vec<&str> = text.split_whitespace().collect();
        let [group, _, blocked, _, ignored] = words[..] else {
            panic!("{text}");
        };
        assert_eq!(group, spawned.pid.to_string());
        for mask in [blocked, ignored] {
            // The signals below the real-time ones, of which libc keeps two for itself.
            assert_eq!(u64::from_str_radix(mask, 16).unwrap() & 0x7fff_ffff, 0, "{text}");
        }
    }

    #[test]
    fn closing_the_lifeline_kills_the_whole_group() {
        let spawned = spawn_template(&shell(
            "sleep 1000 & echo $!; exec >/dev/null; kill -STOP $$; wait",
        ))
        .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(
            &mut io::BufReader::new(File::from(spawned.stdout.try_clone().unwrap())),
            &mut line,
        )
        .unwrap();
        let grandchild = PidFd::open(line.trim().parse().unwrap()).unwrap().unwrap();
        let pidfd = spawned.pidfd;
        drop(spawned.lifeline);
        for pidfd in [&pidfd, &grandchild] {
            let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut polled, PollTimeout::from(20_000u16)).unwrap(), 1);
        }
        assert_eq!(pidfd.wait().unwrap().status(), Some(libc::SIGKILL));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let mut command = shell("");
        command.program = "no-such-python".into();
        let error = spawn_template(&command).unwrap_err().to_string();
        assert_eq!(error, "cannot start `no-such-python`: no such program in PATH");
        let mut command = shell("");
        command.directory = "/no/such/directory".into();
        let error = spawn_template(&command).unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot start `sh`: its directory `/no/such/directory` is not there"
        );
    }

    #[test]
    fn a_template_that_ends_closes_its_control_socket() {
        let spawned = spawn_template(&shell("exit 3")).unwrap();
        assert_eq!(ends_with(&spawned), 3 << 8);
        let mut buffer = [0; 16];
        let received = recv(&spawned.control, &mut buffer, Wait::Block).unwrap();
        assert_eq!(received, Received::Closed);
    }
}
