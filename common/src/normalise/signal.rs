//! Names of POSIX signals, their codes, and Mach exceptions (signal.h, siginfo.h and mach/exception_types.h of the systems).

use super::system::System;

/// The signals 1 to 31 of Linux, on all processors but MIPS, Alpha and SPARC.
const LINUX: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];
/// The signals 1 to 31 of Darwin.
const DARWIN: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGEMT",
    "SIGFPE",
    "SIGKILL",
    "SIGBUS",
    "SIGSEGV",
    "SIGSYS",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGURG",
    "SIGSTOP",
    "SIGTSTP",
    "SIGCONT",
    "SIGCHLD",
    "SIGTTIN",
    "SIGTTOU",
    "SIGIO",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGINFO",
    "SIGUSR1",
    "SIGUSR2",
];

/// A signal that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SignalName {
    pub(super) name: &'static str,
    pub(super) number: i64,
}

/// The name of a signal.
pub(super) fn name(number: i64, system: System) -> Option<SignalName> {
    let names = match system {
        System::Linux => LINUX,
        System::Darwin => DARWIN,
        System::Other => return None,
    };
    let index = usize::try_from(number).ok()?.checked_sub(1)?;
    names.get(index).map(|name| SignalName { name, number })
}

/// The name of the code that says why a signal was sent.
pub(super) fn code_name(signal: i64, code: i64, system: System) -> Option<&'static str> {
    let name = name(signal, system)?.name;
    let names: &[&str] = match (name, system) {
        ("SIGILL", System::Darwin) => &[
            "ILL_ILLOPC",
            "ILL_ILLTRP",
            "ILL_PRVOPC",
            "ILL_ILLOPN",
            "ILL_ILLADR",
            "ILL_PRVREG",
            "ILL_COPROC",
            "ILL_BADSTK",
        ],
        ("SIGILL", _) => &[
            "ILL_ILLOPC",
            "ILL_ILLOPN",
            "ILL_ILLADR",
            "ILL_ILLTRP",
            "ILL_PRVOPC",
            "ILL_PRVREG",
            "ILL_COPROC",
            "ILL_BADSTK",
        ],
        ("SIGFPE", System::Darwin) => &[
            "FPE_FLTDIV",
            "FPE_FLTOVF",
            "FPE_FLTUND",
            "FPE_FLTRES",
            "FPE_FLTINV",
            "FPE_FLTSUB",
            "FPE_INTDIV",
            "FPE_INTOVF",
        ],
        ("SIGFPE", _) => &[
            "FPE_INTDIV",
            "FPE_INTOVF",
            "FPE_FLTDIV",
            "FPE_FLTOVF",
            "FPE_FLTUND",
            "FPE_FLTRES",
            "FPE_FLTINV",
            "FPE_FLTSUB",
        ],
        ("SIGSEGV", System::Linux) => &["SEGV_MAPERR", "SEGV_ACCERR", "SEGV_BNDERR", "SEGV_PKUERR"],
        ("SIGSEGV", _) => &["SEGV_MAPERR", "SEGV_ACCERR"],
        ("SIGBUS", System::Linux) => &["BUS_ADRALN", "BUS_ADRERR", "BUS_OBJERR", "BUS_MCEERR_AR", "BUS_MCEERR_AO"],
        ("SIGBUS", _) => &["BUS_ADRALN", "BUS_ADRERR", "BUS_OBJERR"],
        ("SIGTRAP", _) => &["TRAP_BRKPT", "TRAP_TRACE"],
        ("SIGCHLD", _) => &["CLD_EXITED", "CLD_KILLED", "CLD_DUMPED", "CLD_TRAPPED", "CLD_STOPPED", "CLD_CONTINUED"],
        ("SIGIO", System::Linux) => &["POLL_IN", "POLL_OUT", "POLL_MSG", "POLL_ERR", "POLL_PRI", "POLL_HUP"],
        _ => &[],
    };
    let index = usize::try_from(code).ok().and_then(|code| code.checked_sub(1));
    index.and_then(|index| names.get(index).copied()).or_else(|| sender_name(code, system))
}

/// Codes that say who sent a signal, of whichever kind.
const fn sender_name(code: i64, system: System) -> Option<&'static str> {
    Some(match (system, code) {
        (System::Linux, 0) => "SI_USER",
        (System::Linux, 0x80) => "SI_KERNEL",
        (System::Linux, -1) => "SI_QUEUE",
        (System::Linux, -2) => "SI_TIMER",
        (System::Linux, -3) => "SI_MESGQ",
        (System::Linux, -4) => "SI_ASYNCIO",
        (System::Linux, -5) => "SI_SIGIO",
        (System::Linux, -6) => "SI_TKILL",
        (System::Darwin, 0x10001) => "SI_USER",
        (System::Darwin, 0x10002) => "SI_QUEUE",
        (System::Darwin, 0x10003) => "SI_TIMER",
        (System::Darwin, 0x10004) => "SI_ASYNCIO",
        (System::Darwin, 0x10005) => "SI_MESGQ",
        _ => return None,
    })
}

/// The name of a Mach exception.
pub(super) fn mach_exception(number: i64) -> Option<&'static str> {
    const NAMES: [&str; 13] = [
        "EXC_BAD_ACCESS",
        "EXC_BAD_INSTRUCTION",
        "EXC_ARITHMETIC",
        "EXC_EMULATION",
        "EXC_SOFTWARE",
        "EXC_BREAKPOINT",
        "EXC_SYSCALL",
        "EXC_MACH_SYSCALL",
        "EXC_RPC_ALERT",
        "EXC_CRASH",
        "EXC_RESOURCE",
        "EXC_GUARD",
        "EXC_CORPSE_NOTIFY",
    ];
    let index = usize::try_from(number).ok()?.checked_sub(1)?;
    NAMES.get(index).copied()
}
