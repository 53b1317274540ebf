//! Which variable tells a service how to run, and which of its values mean debugging and
//! production. Pure.

use super::fact::Fact;

/// The variable that the sources read, and two of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mode {
    pub variable: String,
    pub debug: String,
    pub production: String,
}

/// One place that reads a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeReading {
    pub variable: String,
    /// The values that the sources know.
    pub values: Vec<String>,
    /// Another value ends the service: the values of an enum, a `Literal`, a schema.
    pub closed: bool,
    /// Each text but the empty one means the same: `bool(os.getenv("DEBUG"))`.
    pub is_any_text: bool,
    pub file: String,
    pub line: u64,
}

/// Variables that tell how to run, the surest first.
const VARIABLES: [&str; 19] = [
    "APP_MODE",
    "APP_ENV",
    "APP_ENVIRONMENT",
    "ENVIRONMENT",
    "ENV",
    "MODE",
    "RUN_MODE",
    "DEPLOY_ENV",
    "DEPLOYMENT_ENVIRONMENT",
    "GO_ENV",
    "FASTAPI_ENV",
    "FLASK_ENV",
    "DJANGO_ENV",
    "PYTHON_ENV",
    "RUNTIME_ENV",
    "STAGE",
    "NODE_ENV",
    "GIN_MODE",
    "DEBUG",
];
const DEBUG_WORDS: [&str; 7] = ["debug", "development", "dev", "develop", "local", "true", "1"];
const PRODUCTION_WORDS: [&str; 7] = ["production", "prod", "prd", "live", "release", "false", "0"];

/// How well a variable's name fits; `None` if it tells something else.
fn rank_variable(reading: &ModeReading) -> Option<usize> {
    let name = reading.variable.to_uppercase();
    let known = VARIABLES.iter().position(|own| *own == name);
    if name.ends_with("_DEBUG") {
        return Some(VARIABLES.len() - 1);
    }
    // `DISPATCH_ENV` counts where its values say what it is.
    let ends = ["_ENV", "_ENVIRONMENT", "_MODE"].iter().any(|end| name.ends_with(end));
    let says = find_word(&reading.values, &DEBUG_WORDS[..5]).is_some()
        || find_word(&reading.values, &PRODUCTION_WORDS[..4]).is_some();
    known.or((ends && says).then_some(VARIABLES.len()))
}

/// Whether a variable's name may tell how to run.
pub fn is_mode_name(name: &str) -> bool {
    VARIABLES.contains(&name)
        || ["_ENV", "_ENVIRONMENT", "_MODE", "_DEBUG"].iter().any(|end| name.ends_with(end))
}

fn find_word(values: &[String], words: &[&str]) -> Option<String> {
    words.iter().find_map(|word| {
        values.iter().find(|value| value.to_lowercase() == *word).map(ToString::to_string)
    })
}

/// The mode that the readings tell; `None` if no variable does.
pub fn choose_mode(readings: &[ModeReading]) -> Option<Fact<Mode>> {
    let reading = readings
        .iter()
        .filter_map(|reading| Some(((rank_variable(reading)?, !reading.closed), reading)))
        .min_by_key(|(rank, _)| *rank)?
        .1;
    let ModeReading { variable, file, line, .. } = reading;
    // What one place compares with and another enumerates belongs together.
    let mut values: Vec<String> = Vec::new();
    for one in readings.iter().filter(|one| one.variable == *variable) {
        if !reading.closed || one.closed {
            values.extend(one.values.iter().filter(|value| !value.is_empty()).cloned());
        }
    }
    let mode = |debug: &str, production: &str| Mode {
        variable: variable.clone(),
        debug: debug.into(),
        production: production.into(),
    };
    let (standard_debug, standard_production) = match variable.as_str() {
        "NODE_ENV" => ("development", "production"),
        "GIN_MODE" => ("debug", "release"),
        name if name.ends_with("DEBUG") => ("true", "false"),
        _ => ("debug", "production"),
    };
    let debug = find_word(&values, &DEBUG_WORDS);
    let production = find_word(&values, &PRODUCTION_WORDS);
    let known =
        ["NODE_ENV", "GIN_MODE"].contains(&variable.as_str()) || variable.ends_with("DEBUG");
    match (debug, production) {
        _ if reading.is_any_text => Some(Fact::guess(
            mode("1", "0"),
            format!(
                "{file}:{line} takes each text of {variable} for true, also 0 and false: read it \
                 as a number, or compare it"
            ),
        )),
        (Some(debug), Some(production)) => Some(Fact::read(mode(&debug, &production), file, *line)),
        (debug, production) if reading.closed => {
            // A value that is not among them would end the service.
            let other = |taken: Option<&String>, prefer: &[&str]| {
                find_word(&values, prefer)
                    .or_else(|| values.iter().find(|value| Some(*value) != taken).cloned())
                    .or_else(|| values.first().cloned())
                    .unwrap_or_default()
            };
            let debug = debug.unwrap_or_else(|| other(production.as_ref(), &["test", "staging"]));
            let production = production.unwrap_or_else(|| other(Some(&debug), &["staging"]));
            let why = format!(
                "{variable} takes {} ({file}:{line}), and not each mode has a value there",
                values.join(", ")
            );
            Some(Fact::guess(mode(&debug, &production), why))
        }
        (None, None) if !known => Some(Fact::guess(
            mode(standard_debug, standard_production),
            format!("{file}:{line} reads {variable}, and no source says which values it takes"),
        )),
        (debug, production) => {
            let debug = debug.unwrap_or_else(|| standard_debug.into());
            let production = production.unwrap_or_else(|| standard_production.into());
            Some(Fact::read(mode(&debug, &production), file, *line))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_are_those_that_the_variable_takes() {
        struct Case {
            readings: Vec<(&'static str, &'static [&'static str], bool)>,
            mode: Option<(&'static str, &'static str, &'static str)>,
            is_guess: bool,
        }
        let case = |readings: &[(&'static str, &'static [&'static str], bool)], mode, is_guess| {
            Case { readings: readings.to_vec(), mode, is_guess }
        };
        let cases = [
            case(&[], None, false),
            case(&[("HOME", &["debug"], false)], None, false),
            case(
                &[("APP_ENV", &["prod", "dev", "test"], true)],
                Some(("APP_ENV", "dev", "prod")),
                false,
            ),
            case(
                &[("ENVIRONMENT", &["local", "staging", "production"], true)],
                Some(("ENVIRONMENT", "local", "production")),
                false,
            ),
            case(
                &[("APP_ENV", &["staging", "production"], true)],
                Some(("APP_ENV", "staging", "production")),
                true,
            ),
            case(&[("APP_ENV", &["blue"], true)], Some(("APP_ENV", "blue", "blue")), true),
            case(&[("APP_ENV", &[], false)], Some(("APP_ENV", "debug", "production")), true),
            case(
                &[("APP_ENV", &["production"], false)],
                Some(("APP_ENV", "debug", "production")),
                false,
            ),
            case(
                &[("NODE_ENV", &[], false)],
                Some(("NODE_ENV", "development", "production")),
                false,
            ),
            case(&[("DJANGO_DEBUG", &[], false)], Some(("DJANGO_DEBUG", "true", "false")), false),
            case(&[("GIN_MODE", &[], false)], Some(("GIN_MODE", "debug", "release")), false),
            case(
                &[("DISPATCH_ENV", &["local"], false), ("NODE_ENV", &[], false)],
                Some(("NODE_ENV", "development", "production")),
                false,
            ),
            case(
                &[("DISPATCH_ENV", &["dev"], false)],
                Some(("DISPATCH_ENV", "dev", "production")),
                false,
            ),
            case(
                &[("APP_ENV", &["Development", "Production"], true), ("APP_ENV", &["x"], false)],
                Some(("APP_ENV", "Development", "Production")),
                false,
            ),
        ];
        for Case { readings, mode, is_guess } in cases {
            let told: Vec<ModeReading> = readings
                .iter()
                .map(|(variable, values, closed)| ModeReading {
                    variable: variable.to_string(),
                    values: values.iter().map(ToString::to_string).collect(),
                    closed: *closed,
                    is_any_text: false,
                    file: "a".into(),
                    line: 1,
                })
                .collect();
            let found = choose_mode(&told);
            let seen = found.as_ref().map(|fact| {
                let Mode { variable, debug, production } = &fact.value;
                (variable.as_str(), debug.as_str(), production.as_str())
            });
            assert_eq!(seen, mode, "{readings:?}");
            assert_eq!(found.is_some_and(|fact| fact.is_guess()), is_guess, "{readings:?}");
        }
    }
}
