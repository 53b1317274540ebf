//! What publish.yml does, by its own scripts: two images become one by their digests, the program is
//! taken out of it, and the release has both names. GitHub's registry is another one here, and
//! GitHub's API is its own description of it. That attestations are signed only GitHub can do.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::release::github::Github;
use crate::support::{Repository, Run, root, run, stack, unique};

/// The script of the step of publish.yml that is called so.
pub fn script_of(name: &str) -> String {
    let text = std::fs::read_to_string(root().join(".github/workflows/publish.yml")).expect("yml");
    let (_, step) = text.split_once(&format!("name: {name}\n")).expect("the step");
    let (_, script) = step.split_once("run: |\n").expect("a script");
    let lines = script.lines().take_while(|line| line.is_empty() || line.starts_with("          "));
    lines.map(|line| format!("{}\n", line.trim_start_matches("          "))).collect()
}

/// The runner, as far as a step sees it.
struct Runner<'a> {
    repository: &'a Repository,
    github: &'a Github,
    image: String,
    path: String,
}

impl Runner<'_> {
    fn step(&self, name: &str, env: &[(&str, &str)]) -> Run {
        let output = self.repository.path().join(".git/output");
        std::fs::write(&output, "").expect("written");
        let shell = ["--noprofile", "--norc", "-eo", "pipefail", "-c"];
        let mut command = Command::new("bash");
        command.args(shell).arg(script_of(name)).current_dir(self.repository.path());
        for (variable, _) in std::env::vars().filter(|(name, _)| name.starts_with("GITHUB_")) {
            command.env_remove(variable);
        }
        command.envs([
            ("PATH", self.path.as_str()),
            ("IMAGE", &self.image),
            ("ACTOR", "somebody"),
            ("TOKEN", "nothing"),
            ("CICD", env!("CARGO_BIN_EXE_cicd")),
            ("GITHUB_TOKEN", "test-github-token"),
            ("GITHUB_API_URL", &self.github.url),
            ("GITHUB_REPOSITORY", "clinicult/patients"),
            ("GITHUB_REF", "refs/heads/main"),
        ]);
        run(command.env("GITHUB_OUTPUT", &output).envs(env.iter().copied())).ended(0)
    }

    fn output(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.repository.path().join(".git/output"));
        let text = text.expect("an output");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("no {name}: {text}")).to_string()
    }
}

/// The docker command without a login, which is GitHub's registry's.
fn make_docker(folder: &Path) -> String {
    use std::os::unix::fs::PermissionsExt;
    let docker = run(Command::new("sh").args(["-c", "command -v docker"])).ended(0).stdout;
    let script = format!(
        "#!/bin/sh\ncase $1 in login | logout) exit 0 ;; esac\nexec {} \"$@\"\n",
        docker.trim()
    );
    let file = folder.join("docker");
    std::fs::write(&file, script).expect("written");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("executable");
    format!("{}:{}", folder.display(), std::env::var("PATH").expect("a path"))
}

#[test]
fn two_images_become_one_and_a_release_that_names_it() {
    let image = format!("{}/tests/{}", stack("CICD_STACK_REGISTRY"), unique("publish"));
    let repository = Repository::new();
    for file in ["action.yml", "action/action.yml", ".github/service.yaml"] {
        repository.write(file, &std::fs::read_to_string(root().join(file)).expect(file));
    }
    repository.write(".gitignore", "out/\n");
    repository.git(&["add", "-A"]);
    let commit = repository.commit("feat: first");
    let github = Github::of(repository.path(), &stack("CICD_STACK_GITHUB"));
    let folder = tempfile::tempdir().expect("a folder");
    let runner = Runner {
        repository: &repository,
        github: &github,
        image: image.clone(),
        path: make_docker(folder.path()),
    };

    // The image of each architecture, as the jobs `build` leave them: in the registry, by digest.
    let program =
        |architecture: &str| format!("#!/bin/sh\n# {architecture}\nexec \"$CICD\" \"$@\"\n");
    for architecture in ["amd64", "arm64"] {
        let sources = Repository::empty();
        sources.write("cicd", &program(architecture));
        sources.write(
            "Dockerfile",
            "FROM scratch\nCOPY --chmod=755 cicd /cicd\nENTRYPOINT [\"/cicd\"]\n",
        );
        // By a tag, as the engine's own builder pushes nothing by digest alone.
        let output = format!("type=image,name={image}:{architecture},push=true");
        let metadata = sources.path().join("metadata.json");
        run(Command::new("docker")
            .args(["buildx", "build", "--provenance", "false", "--output", &output])
            .args(["--platform", &format!("linux/{architecture}"), "--metadata-file"])
            .arg(&metadata)
            .arg(sources.path()))
        .ended(0);
        let text = std::fs::read_to_string(metadata).expect("metadata");
        let metadata: Value = serde_json::from_str(&text).expect("JSON");
        let digest = metadata["containerimage.digest"].as_str().expect("a digest");
        repository.write(&format!("out/digest-{architecture}"), &format!("{digest}\n"));
    }

    runner.step("Join the images of both architectures", &[("VERSION", "1.0.0"), ("BEGUN", "")]);
    let digest = runner.output("digest");
    // Another attempt, after the tag was made, has the digest already.
    runner
        .step("Join the images of both architectures", &[("VERSION", "1.0.0"), ("BEGUN", &digest)]);
    assert_eq!(runner.output("digest"), digest);

    runner.step("Take the program out of the image", &[("DIGEST", &digest)]);
    let taken = |architecture: &str| {
        let file = repository.path().join(format!("out/cicd-linux-{architecture}"));
        std::fs::read_to_string(file).expect("a program")
    };
    assert_eq!((taken("amd64"), taken("arm64")), (program("amd64"), program("arm64")));

    runner.step("Release", &[("DIGEST", &digest), ("VERSION", "1.0.0")]);
    let tagged = github.with(|state| state.tags["v1.0.0"].clone());
    assert_eq!(github.with(|state| state.tags["v1"].clone()), tagged);
    assert_eq!(repository.git(&["rev-parse", &format!("{tagged}^")]), commit);
    for file in ["action.yml", "action/action.yml"] {
        let text = repository.git(&["show", &format!("{tagged}:{file}")]);
        assert!(text.contains(&format!("\n  image: docker://{image}@{digest}")), "{text}");
    }
    assert_eq!(repository.git(&["branch", "--contains", &tagged]), "", "the tag alone reaches it");
    let published = github.with(|state| state.releases["v1.0.0"].clone());
    let assets = published["assets"].as_array().expect("assets").clone();
    let names: Vec<&str> = assets.iter().filter_map(|asset| asset["name"].as_str()).collect();
    assert_eq!(names, ["cicd-linux-amd64", "cicd-linux-arm64", "SHA256SUMS"]);
    // What a laptop downloads is checked as docs/getting-started.md says.
    let downloads = Repository::empty();
    for asset in &assets {
        let text = |key: &str| asset[key].as_str().expect(key).to_string();
        downloads.write(&text("name"), &text("text"));
    }
    run(Command::new("sha256sum").args(["--check", "SHA256SUMS"]).current_dir(downloads.path()))
        .ended(0);
    let images = Command::new("sh")
        .args(["-c", &format!("docker images -q {image} | sort -u | xargs -r docker rmi -f")])
        .output();
    drop(images);
}
