//! Node projects of many shapes, and what is found in them.

use super::*;

fn tree(files: &[(&str, &str)]) -> Tree {
    files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect()
}

#[test]
fn package_json_says_version_and_command() {
    struct Case {
        package: &'static str,
        other: (&'static str, &'static str),
        command: &'static str,
        version: u32,
        notes: usize,
        is_guess: bool,
    }
    let case = |package, other, command, version, notes, is_guess| Case {
        package,
        other,
        command,
        version,
        notes,
        is_guess,
    };
    let none = ("x", "");
    let cases = [
        case(
            r#"{"scripts":{"start":"node src/x.js","build":"tsc"}}"#,
            none,
            "node src/x.js",
            24,
            0,
            false,
        ),
        case(
            r#"{"scripts":{"build":"tsc","start":"NODE_ENV=production node --enable-source-maps dist/a.js"}}"#,
            none,
            "node --enable-source-maps dist/a.js",
            24,
            0,
            false,
        ),
        case(
            r#"{"scripts":{"start":"npm run migrate && node src/x.js","migrate":"x"}}"#,
            none,
            "node src/x.js",
            24,
            1,
            false,
        ),
        case(
            r#"{"scripts":{"start":"cross-env NODE_ENV=production node src/x.js"}}"#,
            none,
            "node src/x.js",
            24,
            0,
            false,
        ),
        case(
            r#"{"scripts":{"build":"nest build","start":"nest start","start:prod":"node dist/main"}}"#,
            none,
            "node dist/main",
            24,
            0,
            false,
        ),
        case(
            r#"{"scripts":{"build":"nest build","start":"nest start"}}"#,
            none,
            "node dist/main",
            24,
            0,
            false,
        ),
        case(
            r#"{"scripts":{"build":"next build","start":"next start -p 3001"},"dependencies":{"next":"15"}}"#,
            none,
            "node node_modules/next/dist/bin/next start -p 3001",
            24,
            0,
            false,
        ),
        case(
            r#"{"scripts":{"start":"fastify start app.js"},"dependencies":{"fastify":"5"}}"#,
            none,
            "node_modules/.bin/fastify start app.js",
            24,
            0,
            false,
        ),
        case(
            r#"{"scripts":{"start":"nodemon x","serve":"npm run go","go":"node src/x.js"}}"#,
            none,
            "node src/x.js",
            24,
            0,
            false,
        ),
        case(
            r#"{"scripts":{"start":"ts-node x"}}"#,
            ("index.js", ""),
            "node index.js",
            24,
            0,
            true,
        ),
        case(r#"{"main":"src/x"}"#, none, "node src/x", 24, 0, true),
        case(
            r#"{"engines":{"node":">=20 <23"}}"#,
            ("server.js", ""),
            "node server.js",
            22,
            0,
            true,
        ),
        case(
            r#"{"main":"src/x.js","engines":{"node":"22 || 26"}}"#,
            (".nvmrc", "v26.1.0\n"),
            "node src/x.js",
            26,
            0,
            true,
        ),
        case(
            r#"{"main":"src/x.js","engines":{"node":"18.x"}}"#,
            (".nvmrc", "lts/*"),
            "node src/x.js",
            24,
            1,
            true,
        ),
    ];
    for Case { package, other, command, version, notes: count, is_guess } in cases {
        let files = tree(&[
            ("package.json", package),
            ("package-lock.json", "{}"),
            ("src/x.js", "process.on('SIGTERM', stop)"),
            other,
        ]);
        let mut notes = Vec::new();
        let (node, _) = read_project(&files, &[], &mut notes).expect("npm");
        let found = &node.start.command;
        assert_eq!(
            (found.value.join(" ").as_str(), node.version, notes.len(), found.is_guess()),
            (command, version, count, is_guess),
            "{package} {notes:?}"
        );
    }
}

#[test]
fn what_makes_files_is_a_step_of_the_build() {
    let steps = |scripts: &str| {
        let package = format!(r#"{{"scripts":{scripts}}}"#);
        let files = tree(&[("package.json", &package), ("package-lock.json", "{}"), ("a.js", "")]);
        let mut notes = Vec::new();
        let (node, _) = read_project(&files, &[], &mut notes).expect("npm");
        let told: Vec<String> =
            notes.into_iter().filter(|note| !note.contains("SIGTERM")).collect();
        let image = write_image(&node, 3000, "node:24");
        (node.start.steps, told.len(), image)
    };
    let (made, told, image) = steps(r#"{"scss":"sass a b","start":"npm run scss && node a.js"}"#);
    assert_eq!((made, told), (vec!["npm run scss".to_string()], 0));
    assert!(image.contains("npm run scss && \\\n    npm prune"), "{image}");
    let (made, told, image) = steps(r#"{"build":"tsc","start":"npm run build && node a.js"}"#);
    assert_eq!((made, told), (vec![], 0));
    assert_eq!(image.matches("npm run build").count(), 1);
    let (made, told, _) = steps(r#"{"start":"prisma migrate deploy && node a.js"}"#);
    assert_eq!((made, told), (vec![], 1));
    let (made, told, _) = steps(r#"{"prestart":"prisma generate","start":"node a.js"}"#);
    assert_eq!((made, told), (vec!["npx --no-install prisma generate".to_string()], 0));
    let (made, told, _) = steps(r#"{"start":"rm -rf x; y && node a.js"}"#);
    assert_eq!((made, told), (vec![], 1));
}

#[test]
fn what_cannot_be_built_is_refused() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("package.json", "{}")], "entry"),
        (&[("package.json", r#"{"scripts":{"start":"node dist/a.js"}}"#)], "nothing makes"),
        (&[("package.json", "{}"), ("yarn.lock", "")], "Yarn"),
        (&[("package.json", r#"{"packageManager":"pnpm@10.1.0"}"#)], "pnpm"),
        (&[("package.json", "{}"), ("pnpm-workspace.yaml", "packages:\n  - a\n")], "workspace"),
        (
            &[
                ("package.json", r#"{"workspaces":["packages/*"]}"#),
                ("packages/a/package.json", "{}"),
            ],
            "workspaces",
        ),
        (&[("package.json", r#"{"dependencies":{"a":"file:../a"}}"#)], "outside"),
        (&[("package.json", r#"{"dependencies":{"a":"workspace:*"}}"#)], "workspace"),
        (&[("package.json", r#"{"dependencies":{"a":"git+ssh://git@x/y"}}"#)], "SSH"),
    ];
    for (files, expected) in cases {
        let refusal = read_project(&tree(files), &[], &mut Vec::new()).expect_err("it is refused");
        let Refusal::Shape { what, by_hand, .. } = refusal else { panic!("{files:?}") };
        assert!(what.contains(expected) && !by_hand.is_empty(), "{what}");
    }
    let above = |file: &str, text: &str| Above {
        path: "../..".into(),
        below: "apps/web".into(),
        files: tree(&[(file, text)]),
        ..Above::default()
    };
    let member = tree(&[("package.json", r#"{"scripts":{"start":"node a.js"}}"#), ("a.js", "")]);
    for root in [
        above("package.json", r#"{"workspaces":["apps/*"]}"#),
        above("package.json", r#"{"workspaces":{"packages":["./apps/web/"]}}"#),
        above("pnpm-workspace.yaml", "packages:\n  - 'apps/**'\n"),
    ] {
        read_project(&member, &[root], &mut Vec::new()).expect_err("a member of a workspace");
    }
    read_project(&member, &[above("package.json", "{}")], &mut Vec::new()).expect("no workspace");
}

#[test]
fn workspaces_and_local_dependencies_are_there_when_it_installs() {
    let package = r#"{"scripts":{"start":"node a.js"},"workspaces":["packages/*"],
        "dependencies":{"b":"file:./lib/b","c":"github:o/c"}}"#;
    let files = tree(&[
        ("package.json", package),
        ("package-lock.json", "{}"),
        ("a.js", ""),
        ("packages/x/package.json", "{}"),
        ("lib/b/package.json", "{}"),
    ]);
    let (node, _) = read_project(&files, &[], &mut Vec::new()).expect("npm");
    let image = write_image(&node, 3000, "node:24");
    for line in [
        "COPY packages/x/package.json packages/x/package.json\n",
        "COPY lib/b lib/b\n",
        "apt-get install -y --no-install-recommends ca-certificates git",
    ] {
        assert!(image.contains(line), "{line} in {image}");
    }
}

#[test]
fn dependencies_are_a_layer_below_the_sources() {
    let modules = "COPY --from=build /app/node_modules node_modules\n";
    let cases = [
        (r#"{"scripts":{"start":"node a.js"}}"#, "COPY . .\n"),
        (r#"{"scripts":{"start":"node a.js","build":"tsc"}}"#, "COPY --from=sources /app ./\n"),
        (r#"{"scripts":{"start":"node a.js","prepare":"tsc"}}"#, "COPY --from=sources /app ./\n"),
    ];
    for (package, sources) in cases {
        let files = tree(&[("package.json", package), ("package-lock.json", "{}"), ("a.js", "")]);
        let (node, _) = read_project(&files, &[], &mut Vec::new()).expect("npm");
        let image = write_image(&node, 3000, "node:24");
        assert!(image.contains(&format!("{modules}{sources}USER")), "{package}: {image}");
        assert_eq!(image.matches("COPY . .\n").count(), 1, "{package}: {image}");
        assert!(image.contains("mkdir -p node_modules"), "there may be none: {image}");
        assert_eq!(
            image.contains("RUN rm -rf node_modules\n"),
            !sources.contains(". ."),
            "{image}"
        );
    }
}

#[test]
fn a_standalone_server_of_next_is_shipped_alone() {
    let package = r#"{"scripts":{"build":"next build","start":"next start"}}"#;
    let files = tree(&[
        ("package.json", package),
        ("package-lock.json", "{}"),
        ("next.config.ts", "const c = { output: 'standalone' };\nexport default c;"),
        ("public/a.svg", ""),
        ("app/api/health/route.ts", "export const GET = () => {};"),
    ]);
    let mut notes = Vec::new();
    let (node, facts) = read_project(&files, &[], &mut notes).expect("npm");
    let image = write_image(&node, 3000, "node:24");
    assert!(image.contains("COPY --from=build /app/.next/standalone ./\n"), "{image}");
    assert!(image.contains("public public") && image.contains("HOSTNAME=0.0.0.0"), "{image}");
    assert!(image.contains("CMD [\"node\", \"server.js\"]"), "{image}");
    assert_eq!(facts.health.map(|fact| fact.value).as_deref(), Some("/api/health"));
    assert_eq!(facts.port.map(|fact| fact.value), Some(3000));
}

#[test]
fn libraries_that_handle_sigterm_are_known() {
    for (name, source, handled) in [
        ("close-with-grace", "closeWithGrace()", true),
        ("@nestjs/core", "app.enableShutdownHooks()", true),
        ("@godaddy/terminus", "createTerminus(server, {})", true),
        ("http-graceful-shutdown", "gracefulShutdown(server)", true),
        ("express", "process.on('SIGTERM', stop)", true),
        ("express", "// SIGTERM", false),
    ] {
        let package =
            format!(r#"{{"scripts":{{"start":"node a.js"}},"dependencies":{{"{name}":"1"}}}}"#);
        let files =
            tree(&[("package.json", &package), ("package-lock.json", ""), ("a.js", source)]);
        let mut notes = Vec::new();
        read_project(&files, &[], &mut notes).expect("npm");
        assert_eq!(!notes.iter().any(|note| note.contains("SIGTERM")), handled, "{name} {source}");
    }
}

#[test]
fn scripts_around_an_installation_are_seen() {
    let cases = [
        ("{}", Around::Nothing),
        (r#"{"prepare":"husky"}"#, Around::Hooks),
        (r#"{"prepare":"husky install || true","test":"x"}"#, Around::Hooks),
        (r#"{"prepare":"husky && tsc"}"#, Around::Scripts(vec!["prepare"])),
        (r#"{"prepare":"husky; npm run compile"}"#, Around::Scripts(vec!["prepare"])),
        (r#"{"prepare":"node tools/pre-commit.js"}"#, Around::Scripts(vec!["prepare"])),
        (r#"{"prepare":"is-ci || npx husky"}"#, Around::Hooks),
        (r#"{"install":"node-gyp rebuild","postinstall":"x"}"#, Around::Scripts(vec!["install"])),
        (r#"{"prepare":"npm run build"}"#, Around::Scripts(vec!["prepare"])),
        (r#"{"preinstall":"npx only-allow npm"}"#, Around::Nothing),
        (
            r#"{"prepare":"husky","postinstall":"prisma generate"}"#,
            Around::Scripts(vec!["postinstall"]),
        ),
        (
            r#"{"install":"node-gyp rebuild","prepare":"tsc"}"#,
            Around::Scripts(vec!["install", "prepare"]),
        ),
    ];
    for (scripts, expected) in cases {
        let package: Value =
            serde_json::from_str(&format!(r#"{{"scripts":{scripts}}}"#)).expect("JSON");
        assert_eq!(read_around(&package), expected, "{scripts}");
    }
}
