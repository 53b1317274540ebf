//! This process as others on this machine can find it, and whether one of them still runs: `/proc`.

use std::io::ErrorKind;

use super::lock::Process;

/// This process. `None` where the system has no `/proc`: then its lock is waited for.
pub fn find_this_process() -> Option<Process> {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_string());
    let (_, started) = parse_stat(&read("/proc/self/stat")?)?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(Process {
        host: read("/proc/sys/kernel/hostname")?,
        boot: read("/proc/sys/kernel/random/boot_id")?,
        namespace: namespace.to_string_lossy().into_owned(),
        pid: std::process::id(),
        started,
    })
}

/// Whether `process` is certain to have ended: of the same boot and PID namespace as `this` one,
/// and nothing runs there under its number that began when it did.
pub fn has_ended(process: &Process, this: &Process) -> bool {
    if (&process.boot, &process.namespace) != (&this.boot, &this.namespace) {
        return false;
    }
    match std::fs::read_to_string(format!("/proc/{}/stat", process.pid)) {
        Ok(stat) => match parse_stat(&stat) {
            Some((state, started)) => matches!(state, 'Z' | 'X') || started != process.started,
            None => false,
        },
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

/// State and start time of `/proc/PID/stat`. The name before them is in parentheses, and may have
/// spaces and parentheses of its own.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a process that ends is what is looked at")]
    fn a_process_is_seen_to_have_ended_only_when_it_has() {
        let this = find_this_process().expect("a system with /proc");
        assert!(!has_ended(&this, &this));
        let reused = Process { started: this.started + 1, ..this.clone() };
        assert!(has_ended(&reused, &this), "another process has its number now");
        let foreign = Process { boot: "another".into(), ..reused.clone() };
        assert!(!has_ended(&foreign, &this), "another machine's processes are not known");
        let inside = Process { namespace: "pid:[1]".into(), ..reused };
        assert!(!has_ended(&inside, &this), "nor those of a container");

        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("a process");
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("it runs");
        let (_, started) = parse_stat(&stat).expect("its start");
        let process = Process { pid: child.id(), started, ..this.clone() };
        assert!(!has_ended(&process, &this));
        child.kill().expect("killed");
        while std::fs::read_to_string(format!("/proc/{}/stat", child.id()))
            .is_ok_and(|stat| parse_stat(&stat).is_some_and(|(state, _)| state != 'Z'))
        {
            std::thread::yield_now();
        }
        assert!(has_ended(&process, &this), "it ended, and nobody has asked how");
        child.wait().expect("its end");
        assert!(has_ended(&process, &this));
    }

    #[test]
    fn a_name_with_parentheses_is_no_trap() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20";
        assert_eq!(parse_stat(&format!("42 (a) b) (c) {fields}")), Some(('S', 777)));
        assert_eq!(parse_stat("42 (a"), None);
    }
}
