//! Pushing: to a real registry, to ECR, and to one that is not well. What arrives is what was in
//! the layout, byte for byte.
//!
//! What whoever pushes has to pass, and where it is shown:
//!
//! | case | tests |
//! |---|---|
//! | a layout with wrong digests and sizes, traversal, symlinks, missing blobs, cycles, unknown types, empty or double layers | `bad_input_is_refused_…`, `bytes_that_are_not_…`, the tables of `src/layout`, `src/registry/mutations.rs` |
//! | a bad tag, region or account; no repository, no permission | `bad_input_is_refused_…`, `ecr::a_role_with_too_little_…`, `src/registry/cause.rs` |
//! | a reset at 0, 50 and 100 %; a lost answer; 416 | `retries`, `faults` |
//! | 401 in the middle, an expired session, 403 | `retries`, `ecr::a_token_that_is_over_…` |
//! | 429, 503, 400 of ECR's throttling; Retry-After; a deadline | `retries`, `a_push_ends_when_…`, `faults` |
//! | an immutable tag, of the same image or another, also taken meanwhile | `a_taken_tag_…`, `a_tag_of_another_commit_…`, `a_tag_that_is_taken_meanwhile_…` |
//! | several tags, one of them taken | `ecr::ecr_gets_…`, `src/registry/push.rs` |
//! | a mount that is none; one PUT and never a PATCH; a session that is unknown for a moment | `what_another_repository_has_…`, `an_index_arrives_…`, `faults` |
//! | a scan that is active, complete too early, unsupported, absent, late | `scan` |
//! | an end in the middle | `an_interrupted_push_…` |

mod accounts;
mod api;
mod ecr;
mod faults;
mod layouts;
mod lifecycle;
mod proxy;
mod repository;
mod retries;
mod scan;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::image::{EVERYWHERE, build, docker, server, service};
use crate::support::{Removal, Repository, Run, cicd, run, stack, unique};
use ecr::EcrRepository;
use layouts::{Layout, random, sha256};
use proxy::{Act, Proxy, Rule};

/// A repository of the stack's registry that no other test uses.
fn repository(host: &str) -> String {
    format!("{host}/tests/{}", unique("push"))
}

/// A command that pushes `layout` from a service named `name`.
fn pusher(name: &str, layout: &Path, arguments: &[&str]) -> (Repository, Command) {
    let folder = Repository::new();
    folder.write("service.yaml", &format!("name: {name}\nport: 8000\n"));
    let mut command = cicd(folder.path());
    command.args(["push-ecr", "--output", "json", "--layout"]).arg(layout).args(arguments);
    (folder, command)
}

fn push(layout: &Layout, repository: &str, arguments: &[&str]) -> Run {
    let (_folder, mut command) =
        pusher("patients", layout.path(), &[&["--repository", repository], arguments].concat());
    run(&mut command)
}

/// `HOST/NAME` as the beginning of its URLs.
fn url(repository: &str) -> String {
    let (host, name) = repository.split_once('/').expect("HOST/NAME");
    format!("http://{host}/v2/{name}")
}

/// A GET: the status and the body. By hand, as some tests ask thousands of times.
fn get(url: &str) -> (u16, Vec<u8>) {
    let (host, path) =
        url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("a URL");
    let mut connection = TcpStream::connect(host).expect("connected");
    connection.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let accept =
        "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json";
    let request = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\nAccept: {accept}\r\n\r\n");
    connection.write_all(request.as_bytes()).expect("asked");
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).expect("answered");
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n").expect("a head");
    let status = String::from_utf8_lossy(&answer[..head])
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.expect("a status"), answer.split_off(head + 4))
}

/// Pulls all of a layout back and compares it, byte for byte.
fn assert_arrived(layout: &Layout, repository: &str, tags: &[&str]) {
    let at = url(repository);
    for (digest, bytes) in &layout.blobs {
        let (status, found) = get(&format!("{at}/blobs/{digest}"));
        assert_eq!((status, &sha256(&found)), (200, digest));
        assert!(found == *bytes);
    }
    let documents = layout.documents.iter().map(|(digest, bytes)| (digest.as_str(), bytes));
    let root = &layout.documents[&layout.digest];
    for (reference, bytes) in documents.chain(tags.iter().map(|tag| (*tag, root))) {
        let (status, found) = get(&format!("{at}/manifests/{reference}"));
        assert!(status == 200 && found == *bytes, "{reference}: {status}");
    }
}

fn assert_no_tag(repository: &str, tag: &str) {
    assert_eq!(get(&format!("{}/manifests/{tag}", url(repository))).0, 404, "{repository}:{tag}");
}

fn message(ended: &Run) -> String {
    let result = ended.json();
    format!(
        "{} fix: {}",
        result["error"]["message"].as_str().expect("a message"),
        result["error"]["fix"].as_str().unwrap_or("none")
    )
}

#[test]
fn an_index_arrives_whole_and_a_second_push_writes_nothing() {
    let proxy = Proxy::before(&stack("CICD_STACK_REGISTRY"), &[]);
    let repository = repository(&proxy.host);
    let layout = Layout::index(&[random(3_000_000), random(700_001), random(1), random(0x4_0000)]);
    let result =
        push(&layout, &repository, &["--tag", "1.4.0", "--tag", "stable", "--tag", "1.4.0"])
            .ended(0)
            .json();
    assert_eq!(result["repository"], repository);
    assert_eq!(result["digest"], layout.digest);
    assert_eq!(result["tags"], serde_json::json!(["1.4.0", "stable"]));
    assert_eq!(
        (&result["uploaded-bytes"], &result["skipped-bytes"]),
        (&layout.size().into(), &0.into())
    );
    assert_arrived(&layout, &repository, &["1.4.0", "stable"]);

    let writes = proxy.writes();
    assert_eq!(
        writes.iter().filter(|line| line.starts_with("POST")).count(),
        layout.blobs.len(),
        "a session a blob"
    );
    assert!(!writes.iter().any(|line| line.starts_with("PATCH")), "ECR loses parts: {writes:?}");
    assert!(proxy.seen().iter().all(|seen| !seen.chunked), "every upload says its length");
    let manifests: Vec<&str> =
        writes.iter().filter_map(|line| line.split("/manifests/").nth(1)).collect();
    let (children, rest) = manifests.split_at(layout.documents.len() - 1);
    assert_eq!(
        rest,
        [layout.digest.as_str(), "1.4.0", "stable"],
        "the root behind its children, the tags last"
    );
    assert_eq!(children.len(), 3);
    assert!(
        writes.iter().rposition(|line| line.contains("/blobs/"))
            < writes.iter().position(|line| line.contains("/manifests/"))
    );

    let before = proxy.seen().len();
    let again = push(&layout, &repository, &["--tag", "1.4.0", "--tag", "stable"]).ended(0).json();
    assert_eq!(
        (&again["uploaded-bytes"], &again["skipped-bytes"]),
        (&0.into(), &layout.size().into())
    );
    assert_eq!(proxy.writes().len(), writes.len(), "nothing is written twice");
    assert_eq!(proxy.seen().len() - before, 2, "one look for each tag is enough");

    push(&layout, &repository, &["--tag", "1.5.0"]).ended(0);
    assert_eq!(
        proxy.writes()[writes.len()..],
        [format!("PUT /v2/{}/manifests/1.5.0", repository.split_once('/').expect("a name").1)]
    );
}

#[test]
fn what_the_registry_has_is_not_uploaded_again() {
    let repository = repository(&stack("CICD_STACK_REGISTRY"));
    let base = random(2_000_000);
    push(&Layout::image(&[base.clone(), random(10)]), &repository, &["--tag", "1.0.0"]).ended(0);
    let next = Layout::image(&[base.clone(), random(20), random(20)]);
    let result = push(&next, &repository, &["--tag", "1.0.1"]).ended(0).json();
    assert_eq!(result["skipped-bytes"], base.len());
    assert_eq!(result["uploaded-bytes"], next.size() - base.len() as u64);
    assert_arrived(&next, &repository, &["1.0.1"]);
}

/// The engine takes the image by its digest, checks each layer of it, and runs it.
#[test]
fn what_was_pushed_is_pulled_and_runs() {
    let name = unique("pulled");
    let _removal = Removal::of(&name);
    let built = service(&name, &server("", EVERYWHERE), "");
    build(&built, &["--skip-contract"]).ended(0);
    let repository = repository(&stack("CICD_STACK_REGISTRY"));
    let mut command = cicd(built.path());
    command.args(["push-ecr", "--output", "json", "--tag", "1.0.0", "--repository", &repository]);
    let digest =
        run(&mut command).ended(0).json()["digest"].as_str().expect("a digest").to_string();
    let image = format!("{repository}@{digest}");
    docker(&["pull", "--quiet", &image]);
    let read =
        docker(&["run", "--rm", "--network", "none", "--entrypoint", "cat", &image, "/server.py"]);
    docker(&["rmi", "--force", &image]);
    assert_eq!(read.join("\n").trim_end(), server("", EVERYWHERE).trim_end());
}

/// Where a registry has no list of referrers, a tag stands for one; where it keeps the list, it
/// says so and no tag is set.
#[test]
fn an_sbom_goes_with_its_image_and_is_found_from_it() {
    let host = stack("CICD_STACK_REGISTRY");
    let repository = repository(&host);
    let (layout, sbom) = Layout::with_sbom(&[random(1000)]);
    let result = push(&layout, &repository, &["--tag", "1.0.0"]).ended(0).json();
    assert_eq!(result["uploaded-bytes"], layout.size());
    assert_arrived(&layout, &repository, &["1.0.0"]);
    let tag = layout.digest.replace(':', "-");
    let list = || {
        let (status, bytes) = get(&format!("{}/manifests/{tag}", url(&repository)));
        assert_eq!(status, 200);
        serde_json::from_slice::<serde_json::Value>(&bytes).expect("an index")["manifests"].clone()
    };
    assert_eq!(list().as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&list()[0]["digest"], &list()[0]["artifactType"]),
        (&sbom.into(), &"application/spdx+json".into())
    );
    // Again: nothing is written, and nothing is listed twice.
    let proxy = Proxy::before(&host, &[]);
    let again = format!("{}/{}", proxy.host, repository.split_once('/').expect("a name").1);
    let result = push(&layout, &again, &["--tag", "1.0.0"]).ended(0).json();
    assert_eq!((&result["uploaded-bytes"], proxy.writes()), (&0.into(), Vec::new()));

    // Whatever word a registry has for not knowing the list: the tag stands for it, and nothing is
    // lost.
    for answer in [
        "HTTP/1.1 405 Method Not Allowed",
        "HTTP/1.1 400 Bad Request",
        "HTTP/1.1 501 Not Implemented",
    ] {
        let unknown = Rule {
            method: "GET",
            part: "/referrers/",
            times: usize::MAX,
            act: Act::Answer(answer),
        };
        let proxy = Proxy::before(&host, &[unknown]);
        let (layout, repository) =
            (Layout::with_sbom(&[random(1000)]).0, self::repository(&proxy.host));
        push(&layout, &repository, &["--tag", "1.0.0"]).ended(0);
        let (status, _) =
            get(&format!("{}/manifests/{}", url(&repository), layout.digest.replace(':', "-")));
        assert_eq!(status, 200, "{answer}");
    }

    let keeps = Rule {
        method: "PUT",
        part: "/manifests/sha256",
        times: usize::MAX,
        act: Act::Answer("HTTP/1.1 201 Created\r\nOCI-Subject: sha256:0"),
    };
    let proxy = Proxy::before(&host, &[keeps]);
    let (layout, _) = Layout::with_sbom(&[random(1000)]);
    push(&layout, &self::repository(&proxy.host), &[]).ended(0);
    assert!(
        !proxy.writes().iter().any(|line| line.contains("/manifests/sha256-")),
        "{:?}",
        proxy.writes()
    );
}

#[test]
fn what_another_repository_has_is_mounted() {
    let host = stack("CICD_STACK_REGISTRY");
    let (base, proxy) = (repository(&host), Proxy::before(&host, &[]));
    let layer = random(400_000);
    push(&Layout::image(std::slice::from_ref(&layer)), &base, &["--tag", "1.0.0"]).ended(0);
    let next = Layout::image(&[layer.clone(), random(100)]);
    let repository = repository(&proxy.host);
    let from = base.split_once('/').expect("a name").1;
    let result =
        push(&next, &repository, &["--tag", "1.0.0", "--mount-from", from]).ended(0).json();
    assert_eq!(result["skipped-bytes"], layer.len());
    assert_eq!(result["uploaded-bytes"], next.size() - layer.len() as u64);
    assert_arrived(&next, &repository, &["1.0.0"]);
    assert_eq!(proxy.lines(&["POST"]).len(), next.blobs.len(), "one session each, mounted or not");
    // A repository that has nothing: all is uploaded as usual.
    let other = Layout::image(&[random(100)]);
    push(&other, &self::repository(&host), &["--mount-from", "tests/nothing"]).ended(0);
    let said = message(&push(&other, &repository, &["--mount-from", "host:1/a"]).ended(2));
    assert!(said.contains("is no repository's name"), "{said}");
}

#[test]
fn a_push_ends_when_its_time_is_over() {
    let hang = Rule { method: "PUT", part: "/uploads/", times: usize::MAX, act: Act::Silence };
    let proxy = Proxy::before(&stack("CICD_STACK_REGISTRY"), &[hang]);
    let repository = repository(&proxy.host);
    let ended =
        push(&Layout::image(&[random(100)]), &repository, &["--tag", "1.0.0", "--timeout", "1s"]);
    let said = message(&ended.ended(6));
    assert!(said.contains("took longer than 1 s") && said.contains("--timeout"), "{said}");
    assert_no_tag(&repository, "1.0.0");
}

/// Media type and bytes are the layout's: nothing is packed anew on the way.
#[test]
fn zstd_layers_arrive_as_they_are() {
    let repository = repository(&stack("CICD_STACK_REGISTRY"));
    // Frames of zstd (RFC 8878, 3.1.1) with one raw block each: no checksum, the content's size in
    // one byte.
    let frame = |bytes: &[u8]| {
        let block = u32::try_from(bytes.len() << 3 | 1).expect("a small block").to_le_bytes();
        let size = u8::try_from(bytes.len()).expect("a small frame");
        [&[0x28, 0xb5, 0x2f, 0xfd, 0x20, size], &block[..3], bytes].concat()
    };
    let layout = Layout::zstd(&[frame(&random(200)), frame(&random(1))]);
    push(&layout, &repository, &["--tag", "1.0.0"]).ended(0);
    assert_arrived(&layout, &repository, &["1.0.0"]);
    let manifest = String::from_utf8_lossy(&layout.documents[&layout.digest]).into_owned();
    assert_eq!(manifest.matches("image.layer.v1.tar+zstd").count(), 2, "{manifest}");
}

#[test]
fn without_a_tag_an_image_is_there_by_its_digest() {
    let repository = repository(&stack("CICD_STACK_REGISTRY"));
    let layout = Layout::image(&[random(1000)]);
    let digest = layout.digest.clone();
    push(&layout, &repository, &["--digest", &digest]).ended(0);
    assert_arrived(&layout, &repository, &[]);
    assert_eq!(push(&layout, &repository, &[]).ended(0).json()["uploaded-bytes"], 0);
}

#[test]
fn a_taken_tag_is_refused_before_anything_is_written() {
    let proxy = Proxy::before(&stack("CICD_STACK_REGISTRY"), &[]);
    let repository = repository(&proxy.host);
    let (first, second) = (Layout::image(&[random(1000)]), Layout::image(&[random(1000)]));
    push(&first, &repository, &["--tag", "1.0.0", "--tag", "1.0"]).ended(0);
    let writes = proxy.writes().len();
    for plan in [&[][..], &["--plan"][..]] {
        let tags = ["--tag", "2.0.0", "--tag", "1.0.0", "--tag", "1.0"];
        let ended = push(&second, &repository, &[&tags, plan].concat()).ended(3);
        let message = message(&ended);
        for part in [
            &first.digest,
            &second.digest,
            &format!("{repository}:1.0.0 "),
            &format!("{repository}:1.0 "),
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(
            !message.contains("2.0.0") && message.contains("a version names one image for ever"),
            "{message}"
        );
    }
    assert_eq!(proxy.writes().len(), writes);
    assert_no_tag(&repository, "2.0.0");
}

/// Before a build there is no digest yet; the commit says whether a taken tag is ours.
#[test]
fn a_tag_of_another_commit_is_refused_before_the_build() {
    let proxy = Proxy::before(&stack("CICD_STACK_REGISTRY"), &[]);
    let (folder, repository) = (Repository::new(), repository(&proxy.host));
    folder.write("service.yaml", "name: patients\nport: 8000\n");
    let (first, second) = (folder.commit("feat: one"), folder.commit("feat: two"));
    for (tag, layout) in [
        ("1.0.0", Layout::of_commit(&first)),
        ("1.1.0", Layout::of_commit(&second)),
        ("1.2.0", Layout::image(&[random(10)])),
        ("1.0", Layout::of_commit(&first)),
    ] {
        push(&layout, &repository, &["--tag", tag]).ended(0);
    }
    let writes = proxy.writes().len();
    let preflight = |tags: &[&str], code: i32| {
        let mut command = cicd(folder.path());
        command
            .args(["push-ecr", "--preflight", "--output", "json", "--repository", &repository])
            .args(tags);
        run(&mut command).ended(code)
    };
    let said = message(&preflight(&["--tag", "1.1.0", "--tag", "1.0.0", "--tag", "1.0"], 3));
    for part in
        [&first, &second, &format!("{repository}:1.0.0"), &format!("{repository}:1.0: it is taken")]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    for (tag, words) in
        [("1.1.0", "of this commit"), ("1.2.0", "of an unknown commit"), ("9.9.9", "can be pushed")]
    {
        let ended = preflight(&["--tag", tag], 0);
        assert!(ended.stderr.contains(words), "{ended}");
    }
    for (tags, expected) in [(&["--tag", "a b"][..], "as a tag"), (&[], "--tag <TAG>")] {
        let said = message(&preflight(tags, 2));
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(proxy.writes().len(), writes);
}

#[test]
fn a_plan_writes_nothing_and_says_what_would_be() {
    let proxy = Proxy::before(&stack("CICD_STACK_REGISTRY"), &[]);
    let repository = repository(&proxy.host);
    let layout = Layout::image(&[random(1000), random(2000)]);
    let ended = push(&layout, &repository, &["--tag", "1.0.0", "--plan"]).ended(0);
    assert_eq!(
        (&ended.json()["status"], &ended.json()["uploaded-bytes"]),
        (&"planned".into(), &layout.size().into())
    );
    assert!(
        ended.stderr.contains("would upload 3 blobs and 1 manifest")
            && ended.stderr.contains("set 1.0.0"),
        "{ended}"
    );
    assert_eq!(proxy.writes(), Vec::<String>::new());
    push(&layout, &repository, &["--tag", "1.0.0"]).ended(0);
    let ended = push(&layout, &repository, &["--tag", "1.0.0", "--plan"]).ended(0);
    assert!(ended.stderr.contains("would do nothing"), "{ended}");
}

#[test]
fn bytes_that_are_not_what_their_digest_says_do_not_get_a_tag() {
    let repository = repository(&stack("CICD_STACK_REGISTRY"));
    let layout = Layout::image(&[random(1_500_000), random(10)]);
    let file = layout.file(layout.largest());
    let mut bytes = std::fs::read(&file).expect("a layer");
    *bytes.last_mut().expect("a byte") ^= 1;
    std::fs::write(&file, bytes).expect("written");
    let message = message(&push(&layout, &repository, &["--tag", "1.0.0"]).ended(2));
    assert!(
        message.contains(&file.display().to_string())
            && message.contains("its bytes have the digest sha256:"),
        "{message}"
    );
    assert_no_tag(&repository, "1.0.0");
    assert_eq!(get(&format!("{}/blobs/{}", url(&repository), layout.largest())).0, 404);
}

#[test]
fn bad_input_is_refused_before_anybody_is_asked() {
    let layout = Layout::image(&[random(10)]);
    let other = sha256(b"other");
    let nobody = "localhost:1/tests/nobody";
    let cases: [(&str, &[&str], &str); 5] = [
        (nobody, &["--tag", "a b"], "cannot use `a b` as a tag"),
        (nobody, &["--digest", &other], "not sha256:"),
        (
            nobody,
            &["--digest", "latest"],
            "'latest' for '--digest <DIGEST>': a digest is `sha256:` and 64 hexadecimal digits",
        ),
        ("patients", &[], "cannot push to `patients`: it is no repository"),
        ("http://localhost:1/patients", &[], "it has a scheme"),
    ];
    for (repository, arguments, expected) in cases {
        let message = message(&push(&layout, repository, arguments).ended(2));
        assert!(message.contains(expected) && !message.ends_with("fix: none"), "{message}");
    }
    let empty = tempfile::tempdir().expect("a folder");
    let (_folder, mut command) = pusher("patients", empty.path(), &["--repository", nobody]);
    let message = message(&run(&mut command).ended(2));
    assert!(message.contains("it is no OCI layout: it has no oci-layout"), "{message}");
}

#[test]
fn a_tag_that_is_taken_meanwhile_is_not_moved() {
    let late = |times| Rule {
        method: "HEAD",
        part: "/manifests/1.0.0",
        times,
        act: Act::Answer("HTTP/1.1 404 Not Found"),
    };
    let ecr = EcrRepository::new();
    ecr.aws("create-repository", &["--image-tag-mutability", "IMMUTABLE"]).ended(0);
    let (ecr_host, ecr_name) = ecr
        .reached()
        .split_once('/')
        .map(|(host, name)| (host.to_string(), name.to_string()))
        .expect("HOST/NAME");
    let cases = [
        // Noticed at the look before the write; and by the registry, whose tags are immutable.
        (stack("CICD_STACK_REGISTRY"), format!("tests/{}", unique("push")), 1),
        (ecr_host, ecr_name, 2),
    ];
    for (host, name, times) in cases {
        let (first, second) = (Layout::image(&[random(1000)]), Layout::image(&[random(1000)]));
        push(&first, &format!("{host}/{name}"), &["--tag", "1.0.0"]).ended(0);
        let proxy = Proxy::before(&host, &[late(times)]);
        let said = message(
            &push(&second, &format!("{}/{name}", proxy.host), &["--tag", "1.0.0"]).ended(3),
        );
        assert!(said.contains(&first.digest) && said.contains(&second.digest), "{said}");
        assert!(!said.contains("set before it"), "{said}");
        assert_arrived(&first, &format!("{host}/{name}"), &["1.0.0"]);
        // What was set before it stays, and is named.
        let proxy = Proxy::before(&host, &[late(times)]);
        let two = ["--tag", "0.9.0", "--tag", "1.0.0"];
        let said = message(&push(&second, &format!("{}/{name}", proxy.host), &two).ended(3));
        assert!(said.contains("set before it, and of the whole image: 0.9.0"), "{said}");
        assert_arrived(&second, &format!("{host}/{name}"), &["0.9.0"]);
        // The same image, pushed by another run at the same time, is what was wanted.
        let proxy = Proxy::before(&host, &[late(times)]);
        push(&first, &format!("{}/{name}", proxy.host), &["--tag", "1.0.0"]).ended(0);
    }
}

#[test]
fn an_interrupted_push_leaves_no_tag_and_the_next_one_goes_on() {
    let hang = Rule { method: "PUT", part: "/uploads/", times: 1, act: Act::Silence };
    let proxy = Proxy::before(&stack("CICD_STACK_REGISTRY"), &[hang]);
    let repository = repository(&proxy.host);
    let layout = Layout::image(&[random(500_000), random(100)]);
    let (_folder, mut command) =
        pusher("patients", layout.path(), &["--repository", &repository, "--tag", "1.0.0"]);
    let child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("started");
    let deadline = Instant::now() + Duration::from_secs(20);
    let arrived = || {
        layout
            .blobs
            .keys()
            .filter(|blob| get(&format!("{}/blobs/{blob}", url(&repository))).0 == 200)
            .count()
    };
    while arrived() < layout.blobs.len() - 1 {
        assert!(Instant::now() < deadline, "no upload: {:?}", proxy.writes());
    }
    let at = Instant::now();
    run(Command::new("kill").args(["-TERM", &child.id().to_string()])).ended(0);
    let ended = child.wait_with_output().expect("ended");
    assert_eq!(ended.status.code(), Some(143), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(at.elapsed() < Duration::from_secs(5), "{:?}", at.elapsed());
    assert!(String::from_utf8_lossy(&ended.stdout).contains(r#""status":"interrupted""#));
    assert_no_tag(&repository, "1.0.0");
    let next = push(&layout, &repository, &["--tag", "1.0.0"]).ended(0).json();
    assert!(
        next["skipped-bytes"].as_u64() > Some(0),
        "what was uploaded is not uploaded again: {next}"
    );
    assert_arrived(&layout, &repository, &["1.0.0"]);
}

#[test]
fn memory_does_not_grow_with_the_image() {
    let (small, large) = (
        Layout::image(&[random(1000)]),
        Layout::image(&[random(24 << 20), random(24 << 20), random(24 << 20)]),
    );
    let (least, most) = (peak(&small), peak(&large));
    // Six uploads at a time have some chunks of 256 KB and their connections.
    assert!(
        least > 0 && most < least + 8_000,
        "{least} and {most} kB, for an image of {} kB",
        large.size() / 1000
    );
}

/// The most memory that a push of `layout` has had at a time, in kB.
fn peak(layout: &Layout) -> u64 {
    let repository = repository(&stack("CICD_STACK_REGISTRY"));
    let (_folder, mut command) =
        pusher("patients", layout.path(), &["--repository", &repository, "--tag", "1.0.0"]);
    let null = std::process::Stdio::null;
    let mut child = command.stdout(null()).stderr(null()).spawn().expect("started");
    let mut peak = 0;
    let ended = loop {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes =
            line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = kilobytes.unwrap_or(peak).max(peak);
        if let Some(ended) = child.try_wait().expect("waited") {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(ended.success());
    peak
}
