//! What can be seen of a running container: its processes, and what /proc tells inside it. Pure:
//! from text to small types.

use std::collections::BTreeMap;

use super::diagnosis::{self, Socket};

/// What `cat` reads in a container. The environment stands first: it is what ends with a NUL.
/// <https://www.kernel.org/doc/html/latest/filesystems/proc.html>
pub const FILES: [&str; 4] =
    ["/proc/1/environ", "/proc/1/status", "/proc/net/tcp", "/proc/net/tcp6"];

/// What `ps` is asked for; the engine wants the process's number among it.
pub const PS: &str = "-eo pid,ppid,uid,args";

/// One process of a container, as the machine that runs it sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i64,
    pub parent: i64,
    pub uid: u32,
    /// The program and its arguments.
    pub command: String,
}

/// The processes of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processes {
    /// The machine's number of the container's PID 1.
    pub first: i64,
    pub all: Vec<Process>,
}

impl Processes {
    /// PID 1.
    pub fn first(&self) -> Option<&Process> {
        self.all.iter().find(|process| process.pid == self.first)
    }

    /// What PID 1 has started. Not a health check: the engine starts that from outside.
    pub fn children(&self) -> impl Iterator<Item = &Process> {
        self.all.iter().filter(|process| process.parent == self.first)
    }

    /// From the columns of [`PS`].
    pub fn read(first: i64, rows: &[Vec<String>]) -> Processes {
        let read = |row: &Vec<String>| {
            let [pid, parent, uid, command @ ..] = row.as_slice() else { return None };
            let command = command.join(" ");
            Some(Process {
                pid: pid.parse().ok()?,
                parent: parent.parse().ok()?,
                uid: uid.parse().ok()?,
                command,
            })
        };
        Processes { first, all: rows.iter().filter_map(read).collect() }
    }
}

/// What the files of [`FILES`] say. None: not readable there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// Of PID 1, as it was started.
    pub environment: Option<BTreeMap<String, String>>,
    /// PID 1's effective user.
    pub uid: Option<u32>,
    pub listening: Option<Vec<Socket>>,
}

impl Inside {
    /// From the text of [`FILES`], one behind the other.
    pub fn read(text: &str) -> Inside {
        let (environment, rest) =
            text.rsplit_once('\0').map_or((None, text), |(before, rest)| (Some(before), rest));
        let pairs = |text: &str| {
            let pairs: BTreeMap<_, _> =
                text.split('\0').filter_map(|pair| pair.split_once('=')).map(own_pair).collect();
            // Who writes a title over it, as nginx does, leaves nothing that can be read.
            Some(pairs).filter(|pairs| !pairs.is_empty())
        };
        let uids = rest.lines().find_map(|line| line.strip_prefix("Uid:"));
        Inside {
            environment: environment.and_then(pairs),
            uid: uids.and_then(|uids| uids.split_whitespace().nth(1)?.parse().ok()),
            // Without its heading it is the words of a shell that has no `cat`.
            listening: rest.contains("local_address").then(|| diagnosis::read_listening(rest)),
        }
    }
}

fn own_pair((name, value): (&str, &str)) -> (String, String) {
    (name.to_string(), value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart() {
        let tables =
            "  sl  local_address rem_address   st\n   0: 00000000:1F40 00000000:0000 0A 0 0 0 0\n";
        let status = "Name:\tpython3\nUid:\t10001\t10002\t10001\t10001\n";
        let whole = Inside::read(&format!("APP_MODE=debug\0KEY=a\nb=c\0{status}{tables}"));
        let environment = whole.environment.expect("an environment");
        assert_eq!(environment["APP_MODE"], "debug");
        assert_eq!(environment["KEY"], "a\nb=c");
        assert_eq!(whole.uid, Some(10002), "the effective one");
        assert_eq!(whole.listening, Some(vec!["0.0.0.0:8000".parse().expect("a socket")]));
        let partly = Inside::read(&format!("{status}{tables}"));
        assert_eq!(
            (partly.environment, partly.uid),
            (None, Some(10002)),
            "the environment was not readable"
        );
        let titled = Inside::read(&format!("\0\0\0\0{status}{tables}"));
        assert_eq!(
            (titled.environment, titled.uid),
            (None, Some(10002)),
            "its title stands over it"
        );
        assert_eq!(Inside::read("sh: cat: not found\n"), Inside::default());
        assert_eq!(Inside::read(""), Inside::default());
    }

    #[test]
    fn the_first_process_is_found_by_its_number() {
        let row = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<_>>();
        let rows = [
            row("70 1 10001 wget -q localhost"),
            row("50 40 10001 /bin/sh /start.sh"),
            row("51 50 10001 python3 /server.py"),
            row("x y z"),
        ];
        let found = Processes::read(50, &rows);
        assert_eq!(found.first().map(|one| one.command.as_str()), Some("/bin/sh /start.sh"));
        assert_eq!(
            found.children().map(|one| one.command.as_str()).collect::<Vec<_>>(),
            ["python3 /server.py"]
        );
        assert_eq!(Processes::read(1, &rows).first(), None);
    }
}
