//! The generated files are what the code says, and the outputs that commands give are those that
//! action.yml declares.

use crate::support::{Repository, cicd, root, run};

const FILES: [&str; 6] = [
    "action.yml",
    "action/action.yml",
    "docs/commands.md",
    "docs/errors.md",
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
