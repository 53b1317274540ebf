//! A GitHub that knows the refs and releases of one repository, whose commits are those of a real
//! one. It compares before it swaps, breaks what a test tells it to, and asks prism, which knows
//! GitHub's own description, of every request it gets.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// What happens to a request instead of being answered.
#[derive(Clone, Debug)]
pub enum Act {
    /// This is answered: a status, headers, a message.
    Answer(u16, &'static str, &'static str),
    /// It is done, and the connection closed without a word.
    LoseAnswer,
    /// It is answered as ever.
    Pass,
}

/// A name that the repository had once.
const RENAMED: &str = "/repos/clinicult/sufferers/";

/// `act` happens to the first `times` requests of this method whose path has `part` in it.
pub type Rule = (&'static str, &'static str, usize, Act);

#[derive(Default)]
pub struct State {
    /// Tag → commit.
    pub tags: BTreeMap<String, String>,
    /// Those of the tags that are annotated.
    pub annotated: Vec<String>,
    /// Tag → release.
    pub releases: BTreeMap<String, Value>,
    /// Comments on pull request 12, and whether a bot wrote each.
    pub comments: Vec<(String, bool)>,
    /// Deployments, each with its statuses, the oldest first.
    pub deployments: Vec<Value>,
    /// Releases that nobody sees yet.
    pub drafts: Vec<Value>,
    /// Names that belonged to immutable releases.
    pub burned: Vec<String>,
    /// Those of which GitHub takes no ref any more, as a ruleset would.
    pub reserved: Vec<String>,
    /// Whether a ruleset forbids to make tags.
    pub locked: bool,
    pub rules: Vec<Rule>,
    /// `POST /repos/…`, in order.
    pub seen: Vec<String>,
    /// Requests that GitHub's description does not know.
    pub violations: Vec<String>,
    /// The request of this number (from 0) is not answered, done before if so said, and reported
    /// here.
    pub hold: Option<(usize, bool, Sender<()>)>,
}

pub struct Github {
    pub url: String,
    pub state: Arc<Mutex<State>>,
}

impl Github {
    /// Before the commits of `repository`; `prism` is where prism listens.
    pub fn of(repository: &Path, prism: &str) -> Github {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(Mutex::new(State::default()));
        let (shared, repository, own, prism) =
            (state.clone(), repository.to_path_buf(), url.clone(), prism.to_string());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (shared, repository, own, prism) =
                    (shared.clone(), repository.clone(), own.clone(), prism.clone());
                std::thread::spawn(move || drop(serve(client, &shared, &repository, &own, &prism)));
            }
        });
        Github { url, state }
    }

    pub fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().expect("lock"))
    }

    /// The requests that write.
    pub fn writes(&self) -> Vec<String> {
        self.with(|state| {
            state.seen.iter().filter(|line| !line.starts_with("GET")).cloned().collect()
        })
    }
}

impl Drop for Github {
    fn drop(&mut self) {
        let violations = self.with(|state| std::mem::take(&mut state.violations));
        assert!(
            violations.is_empty() || std::thread::panicking(),
            "not GitHub's API: {violations:#?}"
        );
    }
}

const RESTRICTED: &str = "Cannot create ref due to creations being restricted.";

fn serve(
    mut client: TcpStream,
    state: &Mutex<State>,
    repository: &PathBuf,
    own: &str,
    prism: &str,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let mut words = head.split(' ');
    let (method, target) = (
        words.next().unwrap_or_default().to_string(),
        words.next().unwrap_or_default().to_string(),
    );
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_string())
        })
    };
    let mut body =
        vec![0; header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let kind = header("content-type").unwrap_or_else(|| "application/json".into());
    let said = contract(prism, &method, &target, &kind, &body)?;
    let body: Value = match kind.as_str() {
        "application/octet-stream" => String::from_utf8_lossy(&body).into_owned().into(),
        _ => serde_json::from_slice(&body).unwrap_or_default(),
    };

    let mut guard = state.lock().expect("lock");
    guard.violations.extend(said);
    if header("authorization").as_deref() != Some("Bearer test-github-token") {
        guard.violations.push(format!("{method} {target} has no token"));
    }
    guard.seen.push(format!("{method} {target}"));
    let number = guard.seen.len() - 1;
    if let Some((at, after, reached)) = guard.hold.clone()
        && at == number
    {
        if after {
            answer(&mut guard, &method, &target, &body, repository, own);
        }
        drop(guard);
        let _ = reached.send(());
        // Until the one who asked is gone.
        return std::io::copy(&mut client, &mut std::io::sink()).map(drop);
    }
    let rule = guard
        .rules
        .iter_mut()
        .find(|(m, part, times, _)| *times > 0 && *m == method && target.contains(part));
    let act = rule.map(|rule| {
        rule.2 -= 1;
        rule.3.clone()
    });
    let (status, headers, text) = match act {
        Some(Act::Answer(status, headers, message)) => {
            // Only lists are answered with 200 by a rule.
            let body = if status == 200 { json!([]) } else { json!({ "message": message }) };
            (status, headers.to_string(), body.to_string())
        }
        Some(Act::LoseAnswer) => {
            answer(&mut guard, &method, &target, &body, repository, own);
            return Ok(());
        }
        None if target.starts_with(RENAMED) => {
            let to = target.replacen(RENAMED, "/repos/clinicult/patients/", 1);
            let status = if method == "GET" { 301 } else { 307 };
            (
                status,
                format!("Location: {own}{to}\r\n"),
                json!({ "message": "Moved Permanently" }).to_string(),
            )
        }
        Some(Act::Pass) | None => answer(&mut guard, &method, &target, &body, repository, own),
    };
    drop(guard);
    let length = text.len();
    write!(
        client,
        "HTTP/1.1 {status} X\r\nDate: Mon, 23 Nov 2026 03:26:13 GMT\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{text}"
    )
}

/// What prism has against a request.
fn contract(
    prism: &str,
    method: &str,
    target: &str,
    kind: &str,
    body: &[u8],
) -> std::io::Result<Option<String>> {
    let mut stream = TcpStream::connect(prism)?;
    let length = body.len();
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nHost: {prism}\r\nAccept: application/json\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).unwrap_or_default().to_string();
    let good = status.starts_with('2') || status.starts_with('3');
    Ok((!good).then(|| format!("{method} {target} {}: {answer}", String::from_utf8_lossy(body))))
}

fn answer(
    state: &mut State,
    method: &str,
    target: &str,
    body: &Value,
    repository: &PathBuf,
    own: &str,
) -> (u16, String, String) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parts: Vec<String> = path.split('/').skip(1).map(|part| part.replace("%2F", "/")).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let no = |status: u16, message: &str| {
        (status, String::new(), json!({ "message": message }).to_string())
    };
    let yes = |status: u16, value: Value| (status, String::new(), value.to_string());
    let git = |arguments: &[&str]| {
        Command::new("git").args(arguments).current_dir(repository).output().expect("git")
    };
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_string();
    if parts[..3.min(parts.len())] != ["repos", "clinicult", "patients"] {
        return no(404, "Not Found");
    }
    match (method, &parts[3..]) {
        ("GET", ["git", "matching-refs", prefix]) => {
            let prefix = prefix.strip_prefix("tags/").unwrap_or("?");
            let all = state.tags.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(name, commit)| {
                let (kind, sha) = match state.annotated.contains(name) {
                    true => ("tag", "a".repeat(40)),
                    false => ("commit", commit.clone()),
                };
                json!({ "ref": format!("refs/tags/{name}"), "object": { "type": kind, "sha": sha } })
            });
            // Pages, as GitHub makes them.
            let page: usize = query
                .split("page=")
                .last()
                .and_then(|n| n.parse().ok())
                .filter(|_| query.contains("&page="))
                .unwrap_or(1);
            let all: Vec<Value> = all.collect();
            let shown: Vec<Value> = all.iter().skip((page - 1) * 100).take(100).cloned().collect();
            let link = match all.len() > page * 100 {
                true => {
                    format!("Link: <{own}{path}?per_page=100&page={}>; rel=\"next\"\r\n", page + 1)
                }
                false => String::new(),
            };
            (200, link, Value::Array(shown).to_string())
        }
        ("GET", ["tags"]) => yes(
            200,
            state
                .tags
                .iter()
                .map(|(name, commit)| json!({ "name": name, "commit": { "sha": commit } }))
                .collect(),
        ),
        ("GET", ["commits"]) => yes(200, json!([{ "sha": "b".repeat(40), "author": null }])),
        ("GET", ["compare", range]) => {
            let (base, head) = range.split_once("...").expect("a range");
            let is = |a: &str, b: &str| git(&["merge-base", "--is-ancestor", a, b]).status.code();
            match (is(base, head), is(head, base)) {
                (Some(0), Some(0)) => yes(200, json!({ "status": "identical" })),
                (Some(0), _) => yes(200, json!({ "status": "ahead" })),
                (_, Some(0)) => yes(200, json!({ "status": "behind" })),
                (Some(1), Some(1)) => yes(200, json!({ "status": "diverged" })),
                _ => no(404, "Not Found"),
            }
        }
        ("GET", ["issues", "12", "comments"]) => {
            let comment = |(id, (text, bot)): (usize, &(String, bool))| {
                let kind = if *bot { "Bot" } else { "User" };
                json!({ "id": id, "body": text.replace('\n', "\r\n"), "user": { "type": kind } })
            };
            yes(200, state.comments.iter().enumerate().map(comment).collect())
        }
        ("POST", ["issues", "12", "comments"]) => {
            state.comments.push((text("body"), true));
            yes(201, json!({}))
        }
        ("PATCH", ["issues", "comments", id]) => {
            let at: usize = id.parse().expect("a number");
            state.comments[at].0 = text("body");
            yes(200, json!({}))
        }
        ("DELETE", ["issues", "comments", id]) => {
            // Its number is not given to another.
            let at: usize = id.parse().expect("a number");
            state.comments[at] = ("deleted".into(), false);
            (204, String::new(), String::new())
        }
        ("POST", ["deployments"]) => {
            let id = 70 + state.deployments.len();
            let mut deployment = body.clone();
            deployment["id"] = id.into();
            deployment["statuses"] = json!([]);
            state.deployments.push(deployment.clone());
            yes(201, deployment)
        }
        ("GET", ["deployments"]) => {
            let of = query.split('&').find_map(|pair| pair.strip_prefix("environment="));
            let newest = state.deployments.iter().rev();
            yes(
                200,
                newest.filter(|one| one["environment"] == of.unwrap_or("?")).cloned().collect(),
            )
        }
        (method, ["deployments", id, "statuses"]) => {
            let found = state.deployments.iter_mut().find(|one| is_numbered(one, id));
            let Some(deployment) = found else { return no(404, "Not Found") };
            let statuses = deployment["statuses"].as_array_mut().expect("a list");
            if method == "POST" {
                statuses.push(body.clone());
                return yes(201, json!({}));
            }
            yes(200, statuses.iter().rev().cloned().collect())
        }
        ("GET", ["git", "commits", commit]) => {
            let shown = git(&["show", "-s", "--format=%T %cI", commit]);
            let shown = String::from_utf8_lossy(&shown.stdout).trim().to_string();
            match shown.split_once(' ') {
                Some((tree, date)) => {
                    yes(200, json!({ "tree": { "sha": tree }, "committer": { "date": date } }))
                }
                None => no(404, "Not Found"),
            }
        }
        ("POST", ["git", "trees"]) => yes(201, json!({ "sha": write_tree(repository, body) })),
        ("POST", ["git", "commits"]) => yes(201, json!({ "sha": write_commit(repository, body) })),
        ("GET", ["releases"]) => yes(200, state.drafts.clone().into()),
        ("POST", ["releases", id, "assets"]) => {
            let name = query.strip_prefix("name=").expect("a name");
            let draft = state.drafts.iter_mut().find(|draft| is_numbered(draft, id));
            let Some(draft) = draft else { return no(404, "Not Found") };
            let assets = draft["assets"].as_array_mut().expect("a list");
            if assets.iter().any(|asset| asset["name"] == name) {
                let error = json!([{ "resource": "ReleaseAsset", "code": "already_exists", "field": "name" }]);
                let body = json!({ "message": "Validation Failed", "errors": error });
                return (422, String::new(), body.to_string());
            }
            let text = body.as_str().unwrap_or_default();
            let asset = json!({ "id": 7 + assets.len(), "name": name, "state": "uploaded", "size": text.len(), "text": text });
            assets.push(asset.clone());
            yes(201, asset)
        }
        ("DELETE", ["releases", "assets", id]) => {
            for draft in &mut state.drafts {
                let assets = draft["assets"].as_array_mut().expect("a list");
                assets.retain(|asset| !is_numbered(asset, id));
            }
            (204, String::new(), String::new())
        }
        ("PATCH", ["releases", id]) => {
            let at = state.drafts.iter().position(|draft| is_numbered(draft, id));
            let Some(at) = at else { return no(404, "Not Found") };
            let tag = state.drafts[at]["tag_name"].as_str().expect("a tag").to_string();
            assert!(state.tags.contains_key(&tag), "GitHub would make the tag {tag} by itself");
            let mut release = state.drafts.remove(at);
            release["draft"] = body["draft"].clone();
            state.releases.insert(tag, release.clone());
            yes(200, release)
        }
        ("GET", ["releases", "tags", tag]) => match state.releases.get(*tag) {
            Some(release) => yes(200, release.clone()),
            None => no(404, "Not Found"),
        },
        ("POST", ["git", "refs"]) => {
            let (name, commit) = (text("ref").replace("refs/tags/", ""), text("sha"));
            if !git(&["cat-file", "-e", &commit]).status.success() {
                return no(422, "Object does not exist");
            }
            if state.tags.contains_key(&name) {
                return no(422, "Reference already exists");
            }
            if state.locked || state.reserved.contains(&name) {
                return no(422, &format!("Repository rule violations found\n\n{RESTRICTED}\n\n"));
            }
            state.tags.insert(name, commit);
            yes(201, json!({}))
        }
        ("PATCH", ["git", "refs", name]) => {
            let (name, commit) = (name.replace("tags/", ""), text("sha"));
            let Some(now) = state.tags.get(&name).cloned() else {
                return no(422, "Reference does not exist");
            };
            let forward = git(&["merge-base", "--is-ancestor", &now, &commit]).status.success();
            if !forward && body["force"] != true {
                return no(422, "Update is not a fast forward");
            }
            state.tags.insert(name, commit);
            yes(200, json!({}))
        }
        ("POST", ["releases"]) => {
            let tag = text("tag_name");
            let invalid = |code: &str, message: &str| {
                let body = json!({ "message": "Validation Failed", "errors": [{ "resource": "Release", "code": code, "field": "tag_name", "message": message }] });
                (422, String::new(), body.to_string())
            };
            if state.burned.contains(&tag) {
                return invalid("custom", "tag_name was used by an immutable release");
            }
            if state.releases.contains_key(&tag) {
                return invalid("already_exists", "tag_name already_exists");
            }
            let reserved = state.reserved.contains(&tag);
            if !state.tags.contains_key(&tag) && (state.locked || reserved) {
                let mut errors = vec![
                    json!({ "resource": "Release", "code": "custom", "field": "pre_receive",
                    "message": format!("pre_receive Repository rule violations found\n\n{RESTRICTED}\n\n") }),
                ];
                if reserved {
                    errors.push(
                        json!({ "resource": "Release", "code": "custom", "field": "tag_name",
                        "message": "tag_name was used by an immutable release" }),
                    );
                }
                return (
                    422,
                    String::new(),
                    json!({ "message": "Validation Failed", "errors": errors }).to_string(),
                );
            }
            assert!(state.tags.contains_key(&tag), "GitHub would make the tag {tag} by itself");
            let mut release = body.clone();
            release["html_url"] =
                format!("https://github.com/clinicult/patients/releases/tag/{tag}").into();
            if release["draft"] == true {
                let id = 40 + state.drafts.len();
                release["id"] = id.into();
                release["assets"] = json!([]);
                release["upload_url"] =
                    format!("{own}/repos/clinicult/patients/releases/{id}/assets{{?name,label}}")
                        .into();
                state.drafts.push(release.clone());
                return yes(201, release);
            }
            state.releases.insert(tag, release.clone());
            yes(201, release)
        }
        _ => no(404, "Not Found"),
    }
}

/// Git in a repository, with an input; what it prints.
fn git_with(repository: &Path, arguments: &[&str], env: &[(&str, String)], input: &str) -> String {
    let mut child = Command::new("git")
        .args(arguments)
        .envs(env.iter().map(|(name, value)| (name, value)))
        .current_dir(repository)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("git");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("an end");
    assert!(output.status.success(), "git {arguments:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

fn write_tree(repository: &Path, body: &Value) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let index = [("GIT_INDEX_FILE", folder.path().join("index").display().to_string())];
    let git = |arguments: &[&str], input: &str| git_with(repository, arguments, &index, input);
    git(&["read-tree", body["base_tree"].as_str().expect("a tree")], "");
    for entry in body["tree"].as_array().expect("entries") {
        let text = |name: &str| entry[name].as_str().unwrap_or_default();
        let blob = git(&["hash-object", "-w", "--stdin"], text("content"));
        let info = format!("{},{blob},{}", text("mode"), text("path"));
        git(&["update-index", "--add", "--cacheinfo", &info], "");
    }
    git(&["write-tree"], "")
}

fn write_commit(repository: &Path, body: &Value) -> String {
    let text = |at: &str| body.pointer(at).and_then(Value::as_str).unwrap_or_default().to_string();
    let person = |kind: &str, key: &str| {
        (
            format!("GIT_{}_{}", kind.to_uppercase(), key.to_uppercase()),
            text(&format!("/{kind}/{key}")),
        )
    };
    let pairs: Vec<(String, String)> = ["author", "committer"]
        .iter()
        .flat_map(|kind| ["name", "email", "date"].map(|key| person(kind, key)))
        .collect();
    let env: Vec<(&str, String)> =
        pairs.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let (tree, parent) = (text("/tree"), text("/parents/0"));
    git_with(repository, &["commit-tree", &tree, "-p", &parent], &env, &text("/message"))
}

fn is_numbered(thing: &Value, id: &str) -> bool {
    thing["id"].as_u64() == id.parse().ok()
}
