//! What a Node project is, from its files, and the Dockerfile that builds and runs it. Pure.

use serde_json::Value;

use super::facts::{Tree, Unknown, sources};

/// The releases with long-term support, the best first.
/// <https://nodejs.org/en/about/previous-releases>
const VERSIONS: [u32; 3] = [24, 22, 26];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The words of the start command.
    pub command: Vec<String>,
    pub build: bool,
    /// What npm runs around an installation, of the project itself.
    pub around: Around,
    /// Its major version.
    pub version: u32,
}

/// The project's own scripts that npm runs around an installation.
/// <https://docs.npmjs.com/cli/v11/using-npm/scripts#npm-ci>
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Around {
    Nothing,
    /// `prepare` alone, which sets up git's hooks: there is no git in an image, and nothing to set
    /// up.
    Hooks,
    /// They read sources, and may run what is only there for development.
    Scripts(Vec<&'static str>),
}

fn around(package: &Value) -> Around {
    let script = |name: &str| package["scripts"][name].as_str();
    let sets_up_hooks = |prepare: &str| {
        let tools =
            ["husky", "lefthook", "simple-git-hooks", "pre-commit", "is-ci", "true", "exit"];
        let parts = prepare.split(['&', '|', ';']).filter(|part| !part.trim().is_empty());
        parts
            .map(|part| part.split_whitespace().find(|word| *word != "npx"))
            .all(|first| first.is_some_and(|first| tools.contains(&first)))
    };
    let hooks = script("prepare").is_some_and(sets_up_hooks);
    // `preinstall` sees to it that the right tool installs.
    let mut scripts = vec!["install", "postinstall", "prepare"];
    scripts.retain(|name| script(name).is_some() && !(hooks && *name == "prepare"));
    // `npm run install` runs what comes before and after it, too.
    scripts.retain(|name| *name != "postinstall" || script("install").is_none());
    match scripts.is_empty() {
        true if hooks => Around::Hooks,
        true => Around::Nothing,
        false => Around::Scripts(scripts),
    }
}

/// # Errors
/// The dependencies are locked by another tool than npm.
pub fn read(tree: &Tree, notes: &mut Vec<String>) -> Result<Node, Unknown> {
    let package: Value = tree
        .get("package.json")
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let manager =
        package["packageManager"].as_str().unwrap_or("npm").split('@').next().unwrap_or("npm");
    for (file, name, tool) in [
        ("pnpm-lock.yaml", "pnpm", "pnpm"),
        ("yarn.lock", "yarn", "Yarn"),
        ("bun.lock", "bun", "Bun"),
        ("bun.lockb", "bun", "Bun"),
    ] {
        if manager == name {
            return Err(Unknown::Tool("packageManager of package.json", tool));
        }
        if tree.contains_key(file) && !tree.contains_key("package-lock.json") {
            return Err(Unknown::Tool(file, tool));
        }
    }
    if !tree.contains_key("package-lock.json") {
        notes.push("there is no package-lock.json: `npm install` writes it; commit it".into());
    }
    if package["workspaces"].is_array() || package["workspaces"].is_object() {
        notes.push("the project has workspaces: add a COPY for the package.json of each one before `npm ci`".into());
    }
    if !sources(tree).any(|(_, text)| text.contains("SIGTERM")) {
        notes.push("no source handles SIGTERM, which Node does not by itself as the first process: process.on('SIGTERM', () => server.close(() => process.exit(0)))".into());
    }
    let asked = [".nvmrc", ".node-version"]
        .into_iter()
        .find_map(|file| tree.get(file))
        .map(|text| text.trim().trim_start_matches('v'));
    let asked = asked
        .filter(|text| text.starts_with(|c: char| c.is_ascii_digit()))
        .or(package["engines"]["node"].as_str());
    let version =
        VERSIONS.into_iter().find(|major| asked.is_none_or(|range| allows(range, *major)));
    if let (None, Some(range)) = (version, asked) {
        notes.push(format!(
            "the project wants Node {range}, and the image has Node {}: correct one of them",
            VERSIONS[0]
        ));
    }
    Ok(Node {
        command: command(&package, tree, notes),
        build: package["scripts"]["build"].is_string(),
        around: around(&package),
        version: version.unwrap_or(VERSIONS[0]),
    })
}

/// What `npm start` would run in the end, without the shell and the npm around it, which keep
/// signals from it.
fn command(package: &Value, tree: &Tree, notes: &mut Vec<String>) -> Vec<String> {
    let start = package["scripts"]["start"].as_str().unwrap_or_default();
    let last = start.rsplit("&&").next().unwrap_or_default();
    let set = |word: &&str| {
        word.split_once('=')
            .is_some_and(|(name, _)| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
    };
    let words: Vec<String> = last.split_whitespace().skip_while(set).map(str::to_string).collect();
    let plain = words.iter().all(|word| !word.contains(['$', '|', ';', '"', '\'']));
    if words.first().is_some_and(|word| word == "node") && plain {
        if start.contains("&&") {
            notes.push(format!("the image runs `{}` alone; what `npm start` does before it belongs into `before-deploy` of service.yaml", last.trim()));
        }
        return words;
    }
    let known = ["server.js", "index.js", "src/server.js", "src/index.js"]
        .into_iter()
        .find(|file| tree.contains_key(*file));
    let main = package["main"].as_str().or(known).unwrap_or("server.js");
    if !start.is_empty() {
        notes.push(format!("the start script is `{start}`, not `node FILE`: the image runs `node {main}`; correct CMD if it is another file"));
    }
    vec!["node".into(), main.into()]
}

/// Whether a range of npm's grammar takes some release of a major version.
/// <https://github.com/npm/node-semver#ranges>
fn allows(range: &str, major: u32) -> bool {
    let spaced = [">=", "<=", ">", "<", "^", "~", "="]
        .iter()
        .fold(range.to_string(), |text, sign| text.replace(&format!("{sign} "), sign));
    spaced.split("||").any(|all| match all.trim().split_once(" - ") {
        Some((from, to)) => {
            clause(&format!(">={from}"), major) && clause(&format!("<={to}"), major)
        }
        None => all.split_whitespace().all(|one| clause(one, major)),
    })
}

fn clause(text: &str, major: u32) -> bool {
    let sign: String =
        text.chars().take_while(|c| !c.is_ascii_alphanumeric() && *c != '*').collect();
    let version = text[sign.len()..].trim_start_matches('v');
    let mut parts = version.split('.');
    let Some(Ok(asked)) = parts.next().map(str::parse::<u32>) else { return true };
    let rest = parts.any(|part| part.parse::<u32>().is_ok_and(|part| part > 0));
    match sign.as_str() {
        ">=" => major >= asked,
        ">" => major > asked || major == asked && rest,
        "<" => major < asked || major == asked && rest,
        "<=" => major <= asked,
        _ => major == asked,
    }
}

pub fn image(node: &Node, port: u16, base: &str) -> String {
    let command =
        node.command.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let scripts = match &node.around {
        Around::Scripts(scripts) => scripts.as_slice(),
        _ => &[],
    };
    // What is only there for development is needed until all is built.
    let later = node.build || !scripts.is_empty();
    let install = match (&node.around, later) {
        (Around::Scripts(_), _) => "npm ci --ignore-scripts",
        (Around::Hooks, true) => "npm pkg delete scripts.prepare && \\\n    npm ci",
        (Around::Hooks, false) => "npm pkg delete scripts.prepare && \\\n    npm ci --omit=dev",
        (Around::Nothing, true) => "npm ci",
        (Around::Nothing, false) => "npm ci --omit=dev",
    };
    let mut steps: Vec<String> = Vec::new();
    if !scripts.is_empty() {
        steps.push("npm rebuild".into());
        steps.extend(scripts.iter().map(|script| format!("npm run {script}")));
    }
    steps.extend(node.build.then(|| "npm run build".into()));
    steps.extend(later.then(|| "npm prune --omit=dev".into()));
    let build = if steps.is_empty() {
        String::new()
    } else {
        format!("RUN {}\n", steps.join(" && \\\n    "))
    };
    format!(
        "
# build: the dependencies, from the lock file, and the sources.
FROM {base} AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN --mount=type=cache,target=/root/.npm \\
    {install}
COPY . .
{build}
# runtime: what is shipped. Nothing in it is written to.
FROM {base} AS runtime
WORKDIR /app
ENV NODE_ENV=production \\
    PORT={port}
COPY --from=build /app ./
USER 10001:10001
EXPOSE {port}
CMD [{command}]
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_json_says_version_and_command() {
        // package.json, another file; the command, the version, how many notes.
        let cases = [
            (
                r#"{"scripts":{"start":"node src/x.js","build":"tsc"}}"#,
                ("x", ""),
                "node src/x.js",
                24,
                0,
            ),
            (
                r#"{"scripts":{"start":"NODE_ENV=production node --enable-source-maps dist/a.js"}}"#,
                ("x", ""),
                "node --enable-source-maps dist/a.js",
                24,
                0,
            ),
            (
                r#"{"scripts":{"start":"npm run migrate && node a.js"}}"#,
                ("x", ""),
                "node a.js",
                24,
                1,
            ),
            (r#"{"scripts":{"start":"next start"}}"#, ("index.js", ""), "node index.js", 24, 1),
            (r#"{"main":"dist/main.js"}"#, ("x", ""), "node dist/main.js", 24, 0),
            (r#"{"engines":{"node":">=20 <23"}}"#, ("x", ""), "node server.js", 22, 0),
            (
                r#"{"engines":{"node":"22 || 26"}}"#,
                (".nvmrc", "v26.1.0\n"),
                "node server.js",
                26,
                0,
            ),
            (r#"{"engines":{"node":"18.x"}}"#, (".nvmrc", "lts/*"), "node server.js", 24, 1),
            (r#"{"workspaces":["a"]}"#, ("x", ""), "node server.js", 24, 1),
        ];
        for (package, (file, text), command, version, count) in cases {
            let files = [
                ("package.json", package),
                ("package-lock.json", "{}"),
                ("src/x.js", "SIGTERM"),
                (file, text),
            ];
            let tree =
                files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
            let mut notes = Vec::new();
            let node = read(&tree, &mut notes).expect("npm");
            assert_eq!(
                (node.command.join(" ").as_str(), node.version, notes.len()),
                (command, version, count),
                "{package} {notes:?}"
            );
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
            (
                r#"{"install":"node-gyp rebuild","postinstall":"x"}"#,
                Around::Scripts(vec!["install"]),
            ),
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
            assert_eq!(around(&package), expected, "{scripts}");
        }
    }

    #[test]
    fn a_range_takes_versions() {
        for (range, taken) in [
            ("*", true),
            (">=22", true),
            (">= 18.17.0", true),
            ("^24.1", true),
            ("~22", false),
            ("24.x", true),
            ("<24", false),
            ("<24.5", true),
            (">24", false),
            ("20 - 24", true),
            ("18 || 20", false),
            ("=24.1.2", true),
        ] {
            assert_eq!(allows(range, 24), taken, "{range}");
        }
    }
}
