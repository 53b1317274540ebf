//! A Docker engine of a test's own: with the store that is asked for, nothing in its cache, and a
//! network of its own, so that it touches nothing of the engine that everybody uses.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::run;

pub struct Engine {
    folder: tempfile::TempDir,
    daemon: Child,
    beside: Vec<Child>,
}

/// Where an engine keeps images.
#[derive(Clone, Copy)]
pub enum Store {
    Containerd,
    Classic,
}

/// As root, which an engine needs to be.
fn as_root(command: &str) -> Command {
    let is_root = run(Command::new("id").arg("-u")).stdout.trim() == "0";
    let mut root = Command::new(if is_root { "sh" } else { "sudo" });
    if !is_root {
        root.args(["-n", "--", "sh"]);
    }
    root.args(["-c", command]);
    root
}

impl Engine {
    /// Starts one that has the stack's `debian:trixie-slim`.
    pub fn start(store: Store) -> Engine {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().display();
        let feature = matches!(store, Store::Containerd);
        // In its own network namespace, as an engine tidies up the bridge that it finds.
        let command = format!(
            "exec unshare --net sh -c 'ip link set lo up; exec dockerd --data-root {at}/data --exec-root {at}/exec \
             --pidfile {at}/pid --host unix://{at}/docker.sock --feature containerd-snapshotter={feature}'"
        );
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let error = log.try_clone().expect("a log");
        let daemon = as_root(&command)
            .stdout(log)
            .stderr(error)
            .stdin(Stdio::null())
            .spawn()
            .expect("an engine");
        let engine = Engine { folder, daemon, beside: Vec::new() };
        let started = Instant::now();
        while run(engine.docker().arg("info")).code != 0 {
            assert!(started.elapsed() < Duration::from_secs(60), "{}", engine.log());
            std::thread::sleep(Duration::from_millis(200));
        }
        let load = format!("docker save debian:trixie-slim | docker --host {} load", engine.host());
        run(Command::new("sh").args(["-c", &load])).ended(0);
        engine
    }

    /// For DOCKER_HOST.
    pub fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.folder.path().display())
    }

    pub fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", self.host());
        command
    }

    /// Starts `command` in its network, for as long as the engine is there.
    pub fn beside(&mut self, command: &str) {
        let pid = self.process();
        let child = as_root(&format!("exec nsenter --net=/proc/{pid}/ns/net {command}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        self.beside.push(child);
    }

    /// Starts a registry in its network, which this engine reaches as `127.0.0.1:5000`; gives the
    /// address by which containers of this engine do.
    pub fn registry(&mut self) -> String {
        let home = std::env::var("XDG_CACHE_HOME")
            .unwrap_or_else(|_| format!("{}/.cache", std::env::var("HOME").expect("a home")));
        let unpacked = format!("{home}/cicd/registry/current/usr/bin/docker-registry");
        let registry = if std::path::Path::new(&unpacked).exists() {
            unpacked
        } else {
            "docker-registry".into()
        };
        let settings = self.folder.path().join("registry.yaml");
        let data = self.folder.path().join("data/registry");
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '0.0.0.0:5000'}}\n",
            data.display()
        );
        std::fs::write(&settings, text).expect("written");
        self.beside(&format!("{registry} serve {}", settings.display()));
        let gateway =
            ["network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"];
        format!("{}:5000", run(self.docker().args(gateway)).ended(0).stdout.trim())
    }

    /// Puts an image of the stack's engine into that registry; gives its digest.
    pub fn publish(&self, image: &str, name: &str) -> String {
        let (digest, saved) =
            (self.folder.path().join("digest"), self.folder.path().join("saved.tar"));
        run(Command::new("docker").arg("save").arg("--output").arg(&saved).arg(image)).ended(0);
        let copy = format!(
            "nsenter --net=/proc/{}/ns/net skopeo --insecure-policy copy --quiet --retry-times 5 --dest-tls-verify=false \
             --digestfile {} oci-archive:{} docker://127.0.0.1:5000/{name}",
            self.process(),
            digest.display(),
            saved.display()
        );
        let ended = as_root(&copy).output().expect("skopeo runs");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        std::fs::read_to_string(digest).expect("a digest").trim().to_string()
    }

    fn process(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("pid"))
            .expect("a process")
            .trim()
            .to_string()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.folder.path().join("pid")).unwrap_or_default();
        let pid = pid.trim();
        let at = self.folder.path().display();
        if !pid.is_empty() {
            let _ = as_root(&format!("kill {pid}")).output();
        }
        // It ends its containers first.
        let _ = self.daemon.wait();
        let _ = as_root(&format!("rm -rf {at}/data {at}/exec")).output();
        for child in &mut self.beside {
            let _ = as_root(&format!("kill {}", child.id())).output();
            let _ = child.wait();
        }
    }
}
