//! What a Node service runs: what `npm start` would run in the end, without the shell and the npm
//! around it, which keep signals from it. Pure.

use serde_json::Value;

use super::super::syntax::{Grammar, Source};
use super::super::tree::{Evidence, Fact, Refusal, Tree};
use super::code::complete_path;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The words of the command.
    pub command: Fact<Vec<String>>,
    /// Commands that make files, which run in the build after its own script.
    pub steps: Vec<String>,
    pub is_next: bool,
    /// Next puts its server and what it needs into `.next/standalone`.
    pub is_standalone: bool,
    /// What a person has to look at.
    pub notes: Vec<String>,
}

/// Scripts that may say how the service is started, the surest first.
const STARTS: [&str; 7] =
    ["start", "start:prod", "start:production", "start-prod", "serve:prod", "prod", "serve"];
const BUILDS: [&str; 5] = ["build", "build:prod", "build:production", "compile", "tsc"];

/// The script that builds.
pub fn find_build(package: &Value) -> Option<String> {
    let found = BUILDS.into_iter().find(|name| package["scripts"][*name].is_string());
    found.map(str::to_string)
}

/// # Errors
/// Nothing says what is run.
pub fn choose_start(tree: &Tree, package: &Value) -> Result<Start, Refusal> {
    let mut start = None;
    for name in STARTS {
        let Some(script) = package["scripts"][name].as_str() else { continue };
        if let Some(words) = read_script(tree, package, script, 4) {
            start = Some((name, script, words));
            break;
        }
    }
    if let Some((name, script, words)) = start {
        let line = find_line(tree, name);
        let command =
            Fact { value: words, evidence: Evidence::Read { file: "package.json".into(), line } };
        let is_next = command.value.iter().any(|word| word.starts_with("node_modules/next/"));
        let mut start = Start {
            command,
            steps: Vec::new(),
            is_next,
            is_standalone: is_next
                && read_next_option(tree, "output").as_deref() == Some("standalone"),
            notes: Vec::new(),
        };
        if start.is_standalone {
            start.command.value = vec!["node".into(), "server.js".into()];
        }
        read_steps(package, name, script, &mut start);
        note_preloads(package, &mut start);
        drop_env_files(&mut start);
        refuse_unmade(tree, package, &start)?;
        return Ok(start);
    }
    // Nuxt's build makes a server, which no script of its own starts.
    if let Some(build) = package["scripts"]["build"].as_str().filter(|one| *one == "nuxt build") {
        let command = ["node", ".output/server/index.mjs"].map(str::to_string).to_vec();
        let command = Fact::set(command, format!("`{build}` of package.json makes it"));
        return Ok(Start {
            command,
            steps: vec![],
            is_next: false,
            is_standalone: false,
            notes: vec![],
        });
    }
    let known = ["server.js", "index.js", "app.js", "src/server.js", "src/index.js", "src/app.js"];
    let script = package["scripts"]["start"].as_str();
    let main = package["main"]
        .as_str()
        .filter(|main| is_there(tree, main) || find_build(package).is_some())
        .or_else(|| known.into_iter().find(|file| tree.contains_key(*file)));
    let Some(main) = main else {
        return Err(Refusal::shape(
            "a Node project without an entry that can be seen",
            match script {
                Some(script) => format!("the start script is `{script}`, not `node FILE`"),
                None => {
                    "package.json has no script `start` and no file that is there as `main`".into()
                }
            },
            "give package.json a script `start:prod` that says `node FILE`, or write the \
             Dockerfile \
             with its CMD; then run `cicd init` again",
        ));
    };
    let why = match script {
        Some(script) => format!("the start script is `{script}`, not `node FILE`"),
        None => "package.json has no script `start`".to_string(),
    };
    let command = Fact::guess(vec!["node".into(), main.to_string()], why);
    Ok(Start { command, steps: vec![], is_next: false, is_standalone: false, notes: vec![] })
}

/// The line of package.json that a script stands on.
fn find_line(tree: &Tree, script: &str) -> u64 {
    let text = tree.get("package.json").map(String::as_str).unwrap_or_default();
    let key = format!("\"{script}\"");
    let start = text.find("\"scripts\"").unwrap_or(0);
    let at = text[start..].find(&key).map_or(0, |at| start + at);
    text[..at].matches('\n').count() as u64 + 1
}

/// The words that a script runs at its end; `None` if they cannot run without a shell or npm.
fn read_script(tree: &Tree, package: &Value, script: &str, depth: usize) -> Option<Vec<String>> {
    let last = script.rsplit("&&").next().unwrap_or_default();
    let is_variable = |word: &str| {
        word.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
        })
    };
    let before = ["cross-env", "cross-env-shell", "env", "exec", "npx"];
    let words: Vec<String> = last
        .split_whitespace()
        .skip_while(|word| is_variable(word) || before.contains(word))
        .map(str::to_string)
        .collect();
    let is_plain =
        words.iter().all(|word| !word.contains(['$', '|', ';', '"', '\'', '>', '<', '&']));
    let first = words.first().filter(|_| is_plain)?.as_str();
    let named = |word: &str| package["scripts"][word].as_str();
    match first {
        "node" => {
            let watches = words.iter().any(|word| word.starts_with("--watch"));
            let has_file = words.iter().skip(1).any(|word| !word.starts_with('-'));
            (has_file && !watches).then_some(words)
        }
        "next" => {
            (words.get(1).map(String::as_str) == Some("start")).then_some(())?;
            let program = ["node", "node_modules/next/dist/bin/next"].map(str::to_string);
            Some(program.into_iter().chain(words.into_iter().skip(1)).collect())
        }
        // The output folder of `nest build`, where no script says it.
        "nest" => {
            let has_other = STARTS[1..].iter().any(|name| named(name).is_some());
            let file = ["node".to_string(), "dist/main".to_string()];
            (!has_other && !last.contains("--watch")).then(|| file.to_vec())
        }
        "npm" | "yarn" | "pnpm" => {
            let name =
                words.iter().skip(1).find(|word| *word != "run" && !word.starts_with('-'))?;
            read_script(tree, package, named(name)?, depth.checked_sub(1)?)
        }
        "nodemon" | "ts-node" | "ts-node-dev" | "concurrently" | "vite" | "webpack" | "turbo" => {
            None
        }
        program => has_program(tree, package, program).then(|| {
            let path = format!("node_modules/.bin/{program}");
            std::iter::once(path).chain(words.iter().skip(1).cloned()).collect()
        }),
    }
}

/// Whether a dependency that stays in the image brings a program of this name.
fn has_program(tree: &Tree, package: &Value, program: &str) -> bool {
    let lock: Value = tree
        .get("package-lock.json")
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let locked = lock["packages"].as_object().into_iter().flatten().any(|(_, one)| {
        one["dev"] != true && one["bin"].as_object().is_some_and(|bin| bin.contains_key(program))
    });
    locked || super::shape::list_dependencies(package).contains(&program)
}

/// What Next's configuration sets an option to: `output: "standalone"`.
pub fn read_next_option(tree: &Tree, option: &str) -> Option<String> {
    let names = ["next.config.js", "next.config.mjs", "next.config.ts", "next.config.cjs"];
    names.into_iter().find_map(|file| {
        let source = Source::parse(file, tree.get(file)?, Grammar::Script)?;
        source.nodes().into_iter().find_map(|node| {
            let field = |field| node.child_by_field_name(field);
            let is = node.kind() == "pair" && source.text(field("key")?) == option;
            source.string(field("value").filter(|_| is)?)
        })
    })
}

/// What stands before the command: what makes files belongs into the build, a migration into
/// `before-deploy`.
fn read_steps(package: &Value, name: &str, script: &str, start: &mut Start) {
    let mut parts: Vec<&str> = script.split("&&").map(str::trim).collect();
    parts.pop();
    let before = package["scripts"][format!("pre{name}")].as_str();
    let all = before.into_iter().flat_map(|script| script.split("&&")).map(str::trim).chain(parts);
    let build = find_build(package);
    for part in all.filter(|part| !part.is_empty()) {
        let words: Vec<&str> = part.split_whitespace().collect();
        let run = match words.as_slice() {
            ["npm" | "yarn" | "pnpm", "run", name, ..] | ["yarn" | "pnpm", name] => Some(*name),
            _ => None,
        };
        let own = run.and_then(|name| package["scripts"][name].as_str());
        let text = format!("{part} {}", own.unwrap_or_default()).to_lowercase();
        let migrates = ["migrat", "db push", "db:", "seed", "sync-db"];
        if migrates.iter().any(|word| text.contains(word)) {
            start.notes.push(format!(
                "`{part}`, which `npm start` runs before the service, belongs into `before-deploy` \
                 of service.yaml"
            ));
        } else if let (Some(run), Some(_)) = (run, own) {
            let step = format!("npm run {run}");
            if build.as_deref() != Some(run) && !start.steps.contains(&step) {
                start.steps.push(step);
            }
        } else if is_tool(&words) {
            start.steps.push(format!("npx --no-install {part}"));
        } else {
            start.notes.push(format!(
                "the image does not run `{part}`, which `npm start` runs before the service"
            ));
        }
    }
}

/// Takes files of variables out of the command: the image has none, and Node ends without one.
fn drop_env_files(start: &mut Start) {
    let words = &mut start.command.value;
    let all = words.len();
    let mut takes_value = false;
    words.retain(|word| {
        let is_value = std::mem::replace(&mut takes_value, word == "--env-file");
        !is_value && !word.starts_with("--env-file")
    });
    if words.len() < all {
        start.notes.push(
            "the command does without `--env-file`, as the image has no such file: what is in it \
             belongs into `env` and `secrets` of service.yaml"
                .into(),
        );
    }
}

/// Says which modules the command loads first that are dependencies of developers only: the image
/// has none of these.
fn note_preloads(package: &Value, start: &mut Start) {
    let words = &start.command.value;
    let loaded = words.iter().enumerate().filter_map(|(at, word)| {
        let flags = ["-r", "--require", "--import", "--loader", "--experimental-loader"];
        let (flag, value) = word.split_once('=').unwrap_or((word, ""));
        let value = if value.is_empty() { words.get(at + 1)? } else { value };
        flags.contains(&flag).then_some(value)
    });
    let is_dev = |module: &&str| {
        let depth = if module.starts_with('@') { 2 } else { 1 };
        let name = module.split('/').take(depth).collect::<Vec<_>>().join("/");
        package["devDependencies"][&name].is_string() && !package["dependencies"][&name].is_string()
    };
    let lost: Vec<&str> = loaded.filter(is_dev).collect();
    if !lost.is_empty() {
        let note = format!(
            "the command loads {}, which is in `devDependencies`, and the image has none of \
             them: move it to `dependencies`",
            lost.join(", ")
        );
        start.notes.push(note);
    }
}

/// Programs that make files.
fn is_tool(words: &[&str]) -> bool {
    let tools = [
        "tsc",
        "prisma",
        "webpack",
        "vite",
        "esbuild",
        "sass",
        "tsup",
        "rollup",
        "swc",
        "nest",
        "next",
        "babel",
        "graphql-codegen",
        "tailwindcss",
        "tsc-alias",
    ];
    words.first().is_some_and(|first| tools.contains(first))
        && words.iter().all(|word| !word.contains(['$', '|', ';', '"', '\'', '>', '<', '&']))
}

/// Whether a file is in the repository, by the name that Node takes for it.
fn is_there(tree: &Tree, file: &str) -> bool {
    let file = file.trim_start_matches("./").trim_end_matches('/');
    complete_path(file, |path| tree.contains_key(path)).is_some()
}

/// # Errors
/// The command runs a file that is not in the repository, and nothing makes files.
fn refuse_unmade(tree: &Tree, package: &Value, start: &Start) -> Result<(), Refusal> {
    let words = &start.command.value;
    let file =
        words.iter().skip(1).find(|word| !word.starts_with('-') && word.contains(['.', '/']));
    let Some(file) = file.filter(|_| words[0] == "node" && !start.is_next) else { return Ok(()) };
    let around = ["install", "postinstall", "prepare"];
    let makes = find_build(package).is_some()
        || !start.steps.is_empty()
        || around.iter().any(|name| package["scripts"][*name].is_string());
    if makes || is_there(tree, file) {
        return Ok(());
    }
    Err(Refusal::shape(
        "a Node project whose entry nothing makes",
        format!(
            "{} runs {file}, which is not in the repository, and there is no script `build`",
            start.command.evidence
        ),
        "give package.json a script `build` that makes it, or commit it; then run `cicd init` \
         again",
    ))
}
