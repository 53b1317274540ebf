//! Ten thousand layouts that somebody tampered with: each is refused, or what arrives is exactly
//! what its digest says.
//!
//! A layout is damaged as bytes (a bit, a cut, another file's bytes, a link), or as JSON whose
//! digests are then made right again, as somebody would who means harm. What is accepted is pushed
//! to a registry in memory that refuses a blob of another digest, as every registry does, and notes
//! any other document that is put under a digest it has not.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::address::Address;
use super::client::{Client, Identity, Waits};
use super::push;
use crate::error::Kind;
use crate::layout::tests::Draft;
use crate::layout::{Digest, Layout};
use crate::report::{Format, Report, Verbosity};

const CASES: u64 = 10_000;

/// Random enough, and the same for a seed on every machine. <https://prng.di.unimi.it/splitmix64.c>
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides.max(1) as u64) as usize
    }
    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.roll(all.len())]
    }
}

/// The files of a layout by their names.
type Files = BTreeMap<String, Vec<u8>>;

fn files(folder: &Path) -> Files {
    let blobs = std::fs::read_dir(folder.join("blobs/sha256")).expect("blobs");
    let names = blobs.map(|entry| {
        format!("blobs/sha256/{}", entry.expect("an entry").file_name().to_string_lossy())
    });
    let names = names.chain(["index.json".to_string(), "oci-layout".to_string()]);
    names.map(|name| (name.clone(), std::fs::read(folder.join(&name)).expect("a file"))).collect()
}

/// What is tampered with: an image, several platforms, and an image with an SBOM.
fn whole() -> Vec<Files> {
    let one = Draft::image(&[b"layer one", b"layer two"]);
    let several = Draft::new();
    let images = [
        several.manifest(&[b"base", b"amd"], "amd64"),
        several.manifest(&[b"base", b"arm"], "arm64"),
    ];
    several.root(&several.index(&images));
    let referred = Draft::new();
    let image = referred.manifest(&[b"base"], "amd64");
    let sbom = referred.referrer(&image, &[referred.blob("application/spdx+json", b"sbom")]);
    referred.roots(&[&image, &sbom]);
    [one, several, referred].iter().map(|draft| files(draft.folder())).collect()
}

/// Changes one place of a document, anywhere in it.
fn twist(value: &mut Value, dice: &mut Dice) {
    let inside = dice.roll(4) > 0;
    match value {
        Value::Object(map) if inside && !map.is_empty() => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let key = dice.of(&keys).clone();
            match dice.roll(8) {
                0 => drop(map.remove(&key)),
                1 => drop(
                    map.insert(
                        dice.of(&["manifests", "layers", "config", "subject", "urls", "data"])
                            .to_string(),
                        json!([]),
                    ),
                ),
                _ => twist(&mut map[&key], dice),
            }
        }
        Value::Array(list) if inside && !list.is_empty() => {
            let at = dice.roll(list.len());
            match dice.roll(8) {
                0 => drop(list.remove(at)),
                1 => list.push(list[at].clone()),
                2 => list.reverse(),
                _ => twist(&mut list[at], dice),
            }
        }
        Value::String(text) if dice.roll(2) == 0 && !text.is_empty() => {
            let at = dice.roll(text.chars().count());
            *text = text.chars().enumerate().map(|(n, c)| if n == at { 'x' } else { c }).collect();
        }
        other => {
            let strange = [
                json!(null),
                json!(-1),
                json!(0),
                json!(1e99),
                json!(u64::MAX),
                json!(""),
                json!("../../etc/passwd"),
                json!("\u{0}\n\u{1b}[2J"),
                json!([]),
                json!({}),
                json!([[[[[]]]]]),
                json!(true),
                json!("a".repeat(5000)),
                json!("application/vnd.oci.image.index.v1+json"),
                json!("application/vnd.oci.image.layer.v1.tar+zstd"),
                json!("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ];
            *other = dice.of(&strange).clone();
        }
    }
}

/// Writes `bytes` under their own digest instead of under `name`, and says so in every document
/// that names it, up to index.json.
fn replace(files: &mut Files, name: &str, bytes: Vec<u8>, nesting: usize) {
    // A document that got another's bytes may name itself, and would be renamed without end.
    if !name.starts_with("blobs/") || nesting > 5 {
        files.insert(name.to_string(), bytes);
        return;
    }
    let (before, after) =
        (name.rsplit('/').next().unwrap_or_default().to_string(), Digest::of(&bytes));
    if before == after.hex() {
        return;
    }
    let (old_size, size) = (files.remove(name).map_or(0, |old| old.len()), bytes.len());
    files.insert(format!("blobs/sha256/{}", after.hex()), bytes);
    let naming: Vec<String> = files
        .iter()
        .filter(|(_, bytes)| String::from_utf8_lossy(bytes).contains(&before))
        .map(|(name, _)| name.clone())
        .collect();
    for parent in naming {
        let Some(text) =
            files.get(&parent).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        else {
            continue;
        };
        let (old, new) = (
            format!("{before}\",\"size\":{old_size}"),
            format!("{}\",\"size\":{size}", after.hex()),
        );
        let text = text.replace(&old, &new).replace(&before, after.hex());
        replace(files, &parent, text.into_bytes(), nesting + 1);
    }
}

/// Damages a layout in one to three ways, and writes it.
fn damaged(mut files: Files, folder: &Path, dice: &mut Dice) {
    let mut linked = None;
    for _ in 0..=dice.roll(3) {
        let names: Vec<String> = files.keys().cloned().collect();
        let name = dice.of(&names).clone();
        let Some(bytes) = files.get_mut(&name) else { continue };
        let at = dice.roll(bytes.len());
        match dice.roll(10) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.roll(8),
            1 => bytes.truncate(at),
            2 => bytes.insert(at, b'x'),
            3 => drop(files.remove(&name)),
            4 => {
                let other = files[dice.of(&names)].clone();
                files.insert(name, other);
            }
            5 => linked = Some((name, dice.of(&names).clone())),
            _ => {
                let Ok(mut value) = serde_json::from_slice(bytes) else { continue };
                twist(&mut value, dice);
                replace(&mut files, &name, value.to_string().into_bytes(), 0);
            }
        }
    }
    let blobs = folder.join("blobs/sha256");
    let _ = std::fs::remove_dir_all(folder.join("blobs"));
    for entry in ["index.json", "oci-layout"] {
        let _ = std::fs::remove_file(folder.join(entry));
    }
    std::fs::create_dir_all(blobs).expect("folders");
    for (name, bytes) in &files {
        std::fs::write(folder.join(name), bytes).expect("written");
    }
    if let Some((name, to)) = linked {
        let _ = std::fs::remove_file(folder.join(&name));
        let _ = std::os::unix::fs::symlink(folder.join(to), folder.join(name));
    }
}

/// What a registry in memory has: by `blobs/sha256:…` and `manifests/…`.
#[derive(Default)]
struct Stored {
    all: HashMap<String, Vec<u8>>,
    /// Documents that were not what they were said to be.
    wrong: Vec<String>,
}

fn registry() -> (String, Arc<Mutex<Stored>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let host = listener.local_addr().expect("an address").to_string();
    let stored = Arc::new(Mutex::new(Stored::default()));
    let shared = stored.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let shared = shared.clone();
            // A client that breaks off is what is expected of it.
            std::thread::spawn(move || drop(serve(connection, &shared)));
        }
    });
    (host, stored)
}

fn serve(mut connection: TcpStream, stored: &Mutex<Stored>) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut reader = BufReader::new(connection.try_clone()?);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let rest = path.strip_prefix("/v2/a/").unwrap_or_default();
        let mut stored = stored.lock().expect("lock");
        let answer = match (method, rest) {
            ("POST", _) => "202 Accepted\r\nLocation: /v2/a/blobs/uploads/1".to_string(),
            ("PUT", _) if rest.starts_with("blobs/") => {
                let digest = rest.split("digest=sha256%3A").nth(1).unwrap_or_default();
                if Digest::of(&body).hex() == digest {
                    stored.all.insert(format!("blobs/sha256:{digest}"), body);
                    "201 Created".into()
                } else {
                    "400 Bad Request".into()
                }
            }
            ("PUT", _) => {
                let digest = Digest::of(&body);
                if rest.contains("sha256:") && !rest.ends_with(digest.as_str()) {
                    stored.wrong.push(path.to_string());
                }
                stored.all.insert(rest.to_string(), body);
                "201 Created\r\nOCI-Subject: yes".into()
            }
            _ => match stored.all.get(rest) {
                Some(bytes) => format!("200 OK\r\nDocker-Content-Digest: {}", Digest::of(bytes)),
                None => "404 Not Found".into(),
            },
        };
        drop(stored);
        connection
            .write_all(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").as_bytes())?;
    }
}

/// What a tag stands for is there as a whole: every document and blob below it, under its own
/// digest.
fn assert_whole(stored: &Stored, reference: &str, case: u64) {
    let bytes = stored
        .all
        .get(&format!("manifests/{reference}"))
        .unwrap_or_else(|| panic!("{case}: no {reference}"));
    let document: Value = serde_json::from_slice(bytes).expect("JSON");
    let digest = |one: &Value| one["digest"].as_str().expect("a digest").to_string();
    for child in document["manifests"].as_array().into_iter().flatten() {
        assert_whole(stored, &digest(child), case);
    }
    let blobs = document["layers"].as_array().into_iter().flatten().chain(document.get("config"));
    for blob in blobs {
        let bytes = stored
            .all
            .get(&format!("blobs/{}", digest(blob)))
            .unwrap_or_else(|| panic!("{case}: no {blob}"));
        assert_eq!(Digest::of(bytes).to_string(), digest(blob), "{case}");
    }
}

#[test]
fn ten_thousand_tampered_layouts_are_refused_or_arrive_as_their_digest_says() {
    let (whole, report) =
        (whole(), Report::to(Box::new(std::io::sink()), Format::Json, Verbosity::Quiet, false));
    let folder = tempfile::tempdir().expect("a folder");
    let (host, stored) = registry();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (mut accepted, mut pushed) = (0, 0);
    runtime.block_on(async {
        let address = Address::parse(&format!("{host}/a")).expect("an address");
        let client = Client::open(address, Identity::Anonymous, Waits::DEFAULT, None, &report)
            .await
            .expect("a client");
        let tags = ["1.0.0".to_string()];
        for case in 0..CASES {
            let mut dice = Dice(case);
            damaged(dice.of(&whole).clone(), folder.path(), &mut dice);
            let layout = match Layout::open(folder.path()) {
                Ok(layout) => layout,
                Err(error) => {
                    assert!(
                        error.kind == Kind::Input && !error.fixes.is_empty(),
                        "{case}: {error}"
                    );
                    continue;
                }
            };
            accepted += 1;
            *stored.lock().expect("lock") = Stored::default();
            let facts = push::observe_push(&client, &layout, &tags).await.expect("looked");
            let plan = push::plan_push(&layout, "a", &facts).expect("a plan");
            let ended = match push::upload_image(&client, &layout, &plan, &report).await {
                Ok(_) => push::set_tags(&client, &layout, &plan).await,
                Err(error) => Err(error),
            };
            let stored = stored.lock().expect("lock");
            assert_eq!(stored.wrong, Vec::<String>::new(), "{case}");
            match ended {
                Ok(_) => {
                    pushed += 1;
                    assert_whole(&stored, "1.0.0", case);
                    assert_eq!(
                        Digest::of(&stored.all["manifests/1.0.0"]),
                        layout.root().digest,
                        "{case}"
                    );
                    for referrer in layout.referrers() {
                        assert_whole(&stored, referrer.descriptor.digest.as_str(), case);
                    }
                }
                Err(error) => {
                    assert_eq!(error.kind, Kind::Input, "{case}: {error}");
                    assert!(!stored.all.contains_key("manifests/1.0.0"), "{case}");
                }
            }
        }
    });
    // Neither all refused nor all accepted: both ways are tested.
    assert!(
        pushed > 200 && accepted > pushed + 20 && accepted < 6000,
        "{accepted} accepted, {pushed} pushed"
    );
}
