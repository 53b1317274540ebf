//! The generated files are what the code says, and the outputs that commands give are those that
//! action.yml declares.

use crate::support::{Repository, cicd, root, run};

const FILES: [&str; 7] = [
    "action.yml",
    "action/action.yml",
    "docs/commands.md",
    "docs/errors.md",
    "docs/reference.md",
    "schema/platform.schema.json",
    "schema/service.schema.json",
];

#[test]
fn committed_files_are_what_the_code_makes() {
    for file in FILES {
        let made = run(cicd(&root()).args(["generate", file])).ended(0).stdout;
        let committed = std::fs::read_to_string(root().join(file)).unwrap_or_default();
        assert!(
            made == committed,
            "{file} is not what the code makes: run `./dev fmt` and commit it"
        );
    }
}

#[test]
fn every_output_is_declared() {
    let action = std::fs::read_to_string(root().join("action.yml")).expect("action.yml");
    let declared = |key: &str| {
        action
            .split("outputs:")
            .nth(1)
            .is_some_and(|outputs| outputs.contains(&format!("\n  {key}:\n")))
    };
    let repository = Repository::of_example();
    for command in [&["version"][..], &["check"], &["render", "--environment", "local"]] {
        let ended = run(cicd(repository.path()).args(command).args(["--output", "json"])).ended(0);
        for key in ended.json().as_object().expect("an object").keys() {
            assert!(declared(key), "{command:?} gives `{key}`, which action.yml does not declare");
        }
    }
}

/// docs/service.md and docs/platform.md name every key of the schemas.
#[test]
fn the_reference_names_every_key() {
    for (schema, page) in [
        ("schema/service.schema.json", "docs/service.md"),
        ("schema/platform.schema.json", "docs/platform.md"),
    ] {
        let page_text = std::fs::read_to_string(root().join(page)).expect(page);
        let schema: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(root().join(schema)).expect(schema))
                .expect("JSON");
        let mut keys = Vec::new();
        collect(&schema, &mut keys);
        for key in keys {
            assert!(page_text.contains(&key), "{page} does not name `{key}`");
        }
    }
}

/// A release writes its image's digest into both action files, as the one line that names an image.
#[test]
fn a_release_finds_the_image_of_each_action_file() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).expect(file);
    let publish = read(".github/workflows/publish.yml");
    assert!(publish.contains(r#"sed --in-place "s#^  image: .*#  image: docker://$IMAGE@$DIGEST#" action.yml action/action.yml"#));
    for file in ["action.yml", "action/action.yml"] {
        let text = read(file);
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("  image: ")).collect();
        assert!(matches!(lines[..], [line] if line.contains("Dockerfile")), "{file}: {lines:?}");
        assert!(publish.contains(&format!("--with {file}")), "{file}");
    }
}

fn collect(schema: &serde_json::Value, keys: &mut Vec<String>) {
    match schema {
        serde_json::Value::Object(map) => {
            if let Some(properties) =
                map.get("properties").and_then(|properties| properties.as_object())
            {
                keys.extend(properties.keys().cloned());
            }
            map.values().for_each(|value| collect(value, keys));
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| collect(value, keys)),
        _ => {}
    }
}

/// The targets that docs/reference.md says a key is for, as far as a target refuses a key.
#[test]
fn a_key_is_for_the_targets_that_take_it() {
    let schema = std::fs::read_to_string(root().join("schema/service.schema.json")).expect("it");
    let schema: serde_json::Value = serde_json::from_str(&schema).expect("JSON");
    let cases = [
        ("autoscale", "{min: 1, max: 2, cpu: 50}"),
        ("before-deploy", "{command: [migrate]}"),
        ("processes", "{worker: {command: [work]}}"),
        ("storage", "[{name: files, env: FILES}]"),
        ("expose", "{path: /p}"),
        ("manifests", "[more.yaml]"),
        ("replicas", "2"),
    ];
    let repository = Repository::new();
    repository.write("more.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: more}\n");
    repository.write(
        "platform.yaml",
        "registry: {account: '111122223333', region: eu-west-1}\nenvironments:\n  \
         eks: {target: eks, region: eu-west-1, eks: {cluster: c, namespace: n}}\n  \
         ecs: {target: ecs, region: eu-west-1, ecs: {cluster: c, subnets: [s], \
         security-groups: [g], listener: l, execution-role: 'arn:aws:iam::111122223333:role/x'}}\n",
    );
    for (key, value) in cases {
        let targets = schema["properties"][key]["x-targets"].to_string();
        for target in ["eks", "ecs"] {
            repository.write("service.yaml", &format!("name: p\nport: 1\n{key}: {value}\n"));
            let mut render = cicd(repository.path());
            render.args(["render", "--environment", target, "--platform", "platform.yaml"]);
            let ended = run(&mut render);
            assert_eq!(ended.code == 0, targets.contains(target), "{key} on {target}: {ended}");
        }
    }
}
