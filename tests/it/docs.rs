//! What the documents tell to type, typed.

mod every;

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
    run_shell(folder, line, &[])
}

fn run_shell(folder: &Path, line: &str, more: &[(&str, &str)]) -> Run {
    let like = cicd(folder);
    let mut shell = Command::new("bash");
    shell.current_dir(folder).args(["-c", &format!("cicd() {{ \"$CICD\" \"$@\"; }}; {line}")]);
    for (name, value) in like.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    run(shell.env("CICD", like.get_program()).envs(more.iter().copied()))
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
    repository.git(&["tag", "v0.1.0"]);
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
        let line = every::without_comment(&line);
        type_command(repository.path(), &format!("{line}{help}")).ended(0);
    }
    every::type_the_rest(&repository, &name);
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
    give_policies(&name);
    let policy = ["--policy-name", "patients"];
    let policy = aws(&[&["iam", "get-role-policy", "--role-name", &role], &policy[..]].concat());
    assert!(policy.stdout.contains("ecs:UpdateService"), "{policy}");
    let path = ["--role-name", &role, "--policy-name", "patients"];
    aws(&[&["iam", "delete-role-policy"], &path[..]].concat());
    let path = ["--role-name", &format!("{name}-push"), "--policy-name", "patients"];
    aws(&[&["iam", "delete-role-policy"], &path[..]].concat());
    aws(&["cloudformation", "delete-stack", "--stack-name", &name]);
}

/// The commands of the set-up, typed for the roles of a test.
fn give_policies(name: &str) {
    let repository = Repository::of_example();
    let lines = blocks("set-up.md", "sh").join("");
    for line in lines.lines() {
        let line = line
            .replace("cicd-production", &format!("cicd-{name}"))
            .replace("cicd-push", &format!("{name}-push"));
        type_command(repository.path(), &line).ended(0);
    }
}

/// Terraform takes its policy from where the command writes it.
#[test]
fn the_terraform_of_the_set_up_names_a_role_that_is_rendered() {
    let terraform = blocks("set-up.md", "hcl").remove(0);
    let repository = Repository::of_example();
    let command = terraform.lines().find_map(|line| line.strip_prefix("# cicd "));
    let command = format!("cicd {}", command.expect("the command"));
    type_command(repository.path(), &command).ended(0);
    let file = repository.path().join("iam.json");
    let policies = std::fs::read_to_string(file).expect("iam.json");
    let policies: serde_json::Value = serde_json::from_str(&policies).expect("JSON");
    assert!(terraform.contains(r#"jsondecode(file("iam.json")).deploy"#), "{terraform}");
    assert_eq!(policies["deploy"]["Version"], "2012-10-17");
}

/// A service whose repository has a program and a copied workflow, and nothing of this pipeline.
#[test]
fn the_migration_goes_as_it_is_told() {
    let name = unique("moved");
    let _removal = Removal::of(&name);
    let repository = Repository::of_example();
    for file in ["service.yaml", "Dockerfile", ".dockerignore"] {
        let _ = std::fs::remove_file(repository.path().join(file));
    }
    repository.git(&["add", "-A"]);
    repository.commit("fix: as it was before");
    for line in commands("migration.md") {
        type_command(repository.path(), &line).ended(0);
        if line == "cicd init" {
            let file = repository.path().join("service.yaml");
            let text = std::fs::read_to_string(&file).expect("service.yaml");
            let named = text.lines().map(|line| match line.starts_with("name: ") {
                true => format!("name: {name}\n"),
                false => format!("{line}\n"),
            });
            repository.write("service.yaml", &named.collect::<String>());
            repository.git(&["add", "-A"]);
            repository.commit("feat: by the pipeline");
        }
    }
}
