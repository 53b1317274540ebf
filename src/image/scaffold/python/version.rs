//! Which Python a project takes. Pure.

use toml::Table;

use super::super::tree::Tree;
use super::project::get_tool;

/// The minor versions of Python 3 that get security fixes, the best for a service first.
/// <https://devguide.python.org/versions/>
const VERSIONS: [u32; 5] = [13, 14, 12, 11, 15];

/// The newest good Python that the project takes.
pub fn choose_version(tree: &Tree, project: &Table, notes: &mut Vec<String>) -> String {
    let minor = |text: &str| {
        let mut parts = text.trim().trim_start_matches("python-").split('.');
        (parts.next()? == "3").then(|| parts.next()?.trim().parse::<u32>().ok())?
    };
    let file = [".python-version", "runtime.txt"]
        .into_iter()
        .find_map(|file| Some((file, minor(tree.get(file)?)?)));
    let range = project
        .get("project")
        .and_then(|project| project.get("requires-python"))
        .or_else(|| get_tool(project, "poetry")?.get("dependencies")?.get("python"))
        .and_then(toml::Value::as_str)
        .unwrap_or("*");
    if let Some((file, minor)) = file {
        if VERSIONS.contains(&minor) && takes_version(range, minor) {
            return format!("3.{minor}");
        }
        notes.push(format!(
            "{file} says Python 3.{minor}, which {}",
            match VERSIONS.contains(&minor) {
                true => format!("pyproject.toml's `{range}` does not take"),
                false => "gets no security fixes any more: the image has another".into(),
            }
        ));
    }
    let found = VERSIONS.into_iter().find(|minor| takes_version(range, *minor));
    if found.is_none() {
        notes.push(format!(
            "the project wants Python {range}, and the image has Python 3.{}: correct one of them",
            VERSIONS[0]
        ));
    }
    format!("3.{}", found.unwrap_or(VERSIONS[0]))
}

/// Whether a range of versions (PEP 440's, or Poetry's own with `^` and `||`) takes a release of
/// Python 3.`minor`.
fn takes_version(range: &str, minor: u32) -> bool {
    range.split("||").any(|all| all.split(',').all(|one| takes_clause(one.trim(), minor)))
}

fn takes_clause(text: &str, minor: u32) -> bool {
    let sign: String = text.chars().take_while(|c| "<>=~^! ".contains(*c)).collect();
    let version = text[sign.len()..].trim();
    let parts: Vec<Option<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
    let (Some(Some(major)), own) = (parts.first().copied(), (3, minor)) else { return true };
    let asked = (major, parts.get(1).copied().flatten().unwrap_or(0));
    let (whole, patch) = (parts.len() < 2 || parts[1].is_none(), parts.get(2).copied().flatten());
    match sign.trim() {
        ">=" => own >= asked,
        ">" => own > asked || own == asked && (patch.is_some() || whole),
        "<" => own < asked || own == asked && patch.is_some_and(|patch| patch > 0),
        // 3.12.1 is later than 3.12.
        "<=" => own < asked || own == asked && patch.is_some(),
        "!=" => own != asked || patch.is_some() && !version.ends_with('*'),
        "^" => own >= asked && major == 3,
        "~=" if patch.is_none() => own >= asked && major == 3,
        _ => major == 3 && (whole || own == asked),
    }
}
