//! What the documents tell to type, typed.

use std::path::Path;
use std::process::Command;

use crate::support::{Removal, Repository, Run, cicd, root, run, stack, unique};

/// The blocks of a document in this language.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join("docs").join(document)).expect(document);
    let fence = format!("```{language}\n");
    let parts = text.split(&fence).skip(1);
    parts.map(|part| part.split("```").next().unwrap_or_default().to_string()).collect()
}

/// The commands of a document, in order.
pub fn commands(document: &str) -> Vec<String> {
    let lines = blocks(document, "sh").join("");
    let commands: Vec<String> = lines.lines().map(str::to_string).collect();
    assert!(commands.iter().all(|line| line.starts_with("cicd ")), "{document}: {commands:?}");
    commands
}

/// Types a command into a shell in `folder`. The environments of an organisation are this machine.
fn type_command(folder: &Path, line: &str) -> Run {
    let like = cicd(folder);
    let mut shell = Command::new("bash");
    shell.current_dir(folder).args(["-c", &format!("cicd() {{ \"$CICD\" \"$@\"; }}; {line}")]);
    for (name, value) in like.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    run(shell.env("CICD", like.get_program()))
}

#[test]
fn the_first_deploy_and_the_operations_go_as_they_are_told() {
    let name = unique("told");
    let _removal = Removal::of(&name);
    let repository = Repository::of_example();
    let file = repository.path().join("service.yaml");
    let text = std::fs::read_to_string(file).expect("service.yaml");
    repository.write("service.yaml", &text.replace("patients", &name));
    repository.git(&["add", "-A"]);
    repository.commit("fix: a name of its own");
    for line in commands("getting-started.md") {
        type_command(repository.path(), &line).ended(0);
    }
    // Something to go back from.
    repository.write("NEWS.md", "new\n");
    let text = text.replace("patients", &name).replace("LOG_LEVEL: info", "LOG_LEVEL: debug");
    repository.write("service.yaml", &text);
    repository.git(&["add", "-A"]);
    repository.commit("fix: something");
    run(cicd(repository.path()).args(["run", "--environment", "local", "--skip-contract"]))
        .ended(0);
    for line in commands("operating.md") {
        // A promotion has two environments, and this machine is one.
        let help = if line.starts_with("cicd promote") { " --help" } else { "" };
        let line = line.replace("--environment production", "--environment local");
        let line = line.split(" # ").next().unwrap_or_default();
        type_command(repository.path(), &format!("{line}{help}")).ended(0);
    }
}

#[test]
fn the_services_of_a_repository_are_listed_as_it_is_told() {
    let repository = Repository::new();
    let service = blocks("monorepo.md", "yaml").remove(0);
    repository.write("services/billing/service.yaml", &service);
    repository.write("libs/money/money.py", "");
    repository.git(&["add", "-A"]);
    repository.commit("feat: billing");
    for line in commands("monorepo.md") {
        let listed = type_command(repository.path(), &line).ended(0);
        assert!(listed.stdout.contains("services/billing/service.yaml"), "{listed}");
    }
}

/// The numbers of docs/comparison.md are those of the files.
#[test]
fn the_comparison_is_counted() {
    let read = |folder: &str| -> Vec<String> {
        let file = |name: &str| root().join(folder).join(name);
        ["ci.yml", "deploy.yml"]
            .map(|name| std::fs::read_to_string(file(name)).expect(name))
            .to_vec()
    };
    let lines = |files: &[String]| {
        let all = files.iter().flat_map(|text| text.lines()).map(str::trim_start);
        all.filter(|line| !line.is_empty() && !line.starts_with('#')).count()
    };
    let actions = |files: &[String]| {
        let uses = files.iter().flat_map(|text| text.split("uses: ").skip(1));
        let names = uses.map(|rest| rest.split('@').next().unwrap_or_default().to_string());
        // A workflow of a repository is pinned as an action of it is.
        let repositories = names.map(|name| name.split('/').take(2).collect::<Vec<_>>().join("/"));
        repositories.collect::<std::collections::BTreeSet<_>>().len()
    };
    let (ours, theirs) = (read("workflows"), read("docs/marketplace"));
    let text = std::fs::read_to_string(root().join("docs/comparison.md")).expect("a document");
    for (what, count) in [
        ("lines of YAML, without blank lines and comments", [lines(&ours), lines(&theirs)]),
        ("actions of others to read, pin and update", [actions(&ours), actions(&theirs)]),
    ] {
        let row = format!("| {what} | {} | {} |", count[0], count[1]);
        assert!(text.contains(&row), "it should say: {row}");
    }
}

/// The template as it is told, but for the provider, which the emulated AWS does not make.
#[test]
fn the_template_makes_the_roles() {
    let template = blocks("set-up.md", "yaml").remove(0);
    let (head, rest) = template.split_once("  GitHub:\n").expect("the provider");
    let (_, rest) = rest.split_once("  Records:\n").expect("the bucket");
    let issuer = stack("CICD_STACK_OIDC_URL");
    let host = issuer.split("://").nth(1).and_then(|rest| rest.split('/').next()).expect("a host");
    let provider = format!("arn:aws:iam::111122223333:oidc-provider/{host}");
    let name = unique("setup");
    let rest = rest.replace("!Ref GitHub", &provider).replace("cicd-push", &format!("{name}-push"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("template.yaml");
    std::fs::write(&file, format!("{head}  Records:\n{rest}")).expect("written");
    let aws = |arguments: &[&str]| run(Command::new("aws").args(arguments)).ended(0);
    let parameter = |key: &str, value: &str| format!("ParameterKey={key},ParameterValue={value}");
    aws(&[
        "cloudformation",
        "create-stack",
        "--stack-name",
        &name,
        "--template-body",
        &format!("file://{}", file.display()),
        "--capabilities",
        "CAPABILITY_NAMED_IAM",
        "--parameters",
        &parameter("Repository", "clinicult/patients"),
        &parameter("Environment", &name),
        &parameter("RecordsBucket", &format!("{name}-records")),
    ]);
    let role = format!("cicd-{name}");
    let trusts = aws(&["iam", "get-role", "--role-name", &role]);
    let subject = format!("repo:clinicult/patients:environment:{name}");
    assert!(trusts.stdout.contains(&subject), "{trusts}");
    let policy = ["--policy-name", "deploy"];
    let policy = aws(&[&["iam", "get-role-policy", "--role-name", &role], &policy[..]].concat());
    assert!(policy.stdout.contains("ecs:UpdateService"), "{policy}");
    aws(&["cloudformation", "delete-stack", "--stack-name", &name]);
}
