//! What people see on github.com of real deploys, as Markdown: `./dev proof summaries` draws it.

use std::path::Path;

use crate::github::{commenting, on_main, place_without_role};
use crate::pipeline::service;
use crate::probe::digest_of;
use crate::release::github::Github;
use crate::support::{Removal, cicd, root, run, stack, unique};

/// Where the Markdown is written to.
const FOLDER: &str = "target/pictures";

#[test]
#[ignore = "./dev proof summaries: two minutes"]
fn summaries() {
    let folder = root().join(FOLDER);
    std::fs::create_dir_all(&folder).expect("a folder");
    draw_deploys(&folder);
    draw_comment(&folder);
}

/// A deploy that ends well, one that goes back, and one that is refused.
fn draw_deploys(folder: &Path) {
    let place = place_without_role("pictures");
    let github = Github::of(place.repository.path(), &stack("CICD_STACK_GITHUB"));
    let at = place.repository.path();
    let deploy = |version: &str, code: i32, picture: Option<&str>| {
        on_main(&mut place.command(version, digest_of(version)), at, &github).ended(code);
        let summary = at.join("summary.md");
        if let Some(picture) = picture {
            std::fs::copy(&summary, folder.join(picture)).expect("copied");
        }
        std::fs::remove_file(&summary).expect("a summary");
    };
    place.service("env: {GREETING: hello, LOG_LEVEL: info}\nreplicas: 1\n");
    deploy("1.0.0", 0, None);
    place.service("env: {GREETING: welcome, LOG_LEVEL: debug}\nreplicas: 2\n");
    deploy("2.0.0", 0, Some("deployed.md"));
    place.service("env: {GREETING: welcome, CRASH: 'cannot reach db.internal:5432'}\n");
    deploy("1.0.0", 4, Some("rolled-back.md"));
    place.service("secrets: {DATABASE_URL: 'k8s:database/url', API_KEY: 'k8s:partner/key'}\n");
    deploy("2.0.0", 3, Some("refused.md"));
}

/// The comment on a pull request that changes the image and a setting.
fn draw_comment(folder: &Path) {
    let name = unique("patients");
    let repository = service(&name);
    let _removal = Removal::of(&name);
    run(cicd(repository.path()).args(["run", "--environment", "staging"])).ended(0);
    let github = Github::of(repository.path(), &stack("CICD_STACK_GITHUB"));
    let text = std::fs::read_to_string(repository.path().join("service.yaml")).expect("a file");
    repository.write("service.yaml", &text.replace("LOG_LEVEL: info", "LOG_LEVEL: debug"));
    repository.write("patients/codes.txt", &"A00 Cholera\n".repeat(4000));
    repository.git(&["add", "-A"]);
    repository.commit("feat: codes of diagnoses");
    for step in ["check", "version"] {
        run(&mut commenting(&repository, &github, step)).ended(0);
    }
    let mut build = commenting(&repository, &github, "build-image");
    let built = run(build.args(["--compare", "staging", "--output", "json"])).ended(0).json();
    let mut plan = commenting(&repository, &github, "deploy");
    plan.args(["--plan", "--environment", "staging", "--version", "0.2.0", "--digest"]);
    run(plan.arg(built["digest"].as_str().expect("a digest"))).ended(0);
    let comments = github.with(|state| state.comments.clone());
    std::fs::write(folder.join("comment.md"), &comments[0].0).expect("written");
}
