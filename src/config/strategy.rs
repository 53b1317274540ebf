//! How a new version takes the place of the old one. Pure.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::values::{Span, UrlPath};
use crate::error::{Error, Result};

/// How a new version is deployed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Deploy {
    /// `rolling`: copy by copy. `canary`: a few copies of the new version beside all of the old one
    /// first.
    #[schemars(extend("x-targets" = ["eks"]))]
    pub strategy: Strategy,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Strategy {
    #[default]
    Rolling,
    Canary(Canary),
}

/// A new version that has to prove itself with a part of the users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Canary {
    /// Percent of all copies that are of the new version, step by step.
    pub steps: Vec<u8>,
    /// So long each step lasts, once its copies are healthy.
    pub pause: Span,
    pub abort_on: AbortOn,
}

/// What ends a canary, beside copies that are not healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AbortOn {
    /// The share of requests to the new version, one each second, that may go without a 2xx.
    pub errors: Percent,
    /// What is asked for; `health.path` when not given.
    pub path: Option<UrlPath>,
}

impl Default for Canary {
    fn default() -> Self {
        Canary {
            steps: vec![10, 50],
            pause: Span(Duration::from_secs(120)),
            abort_on: AbortOn::default(),
        }
    }
}

impl Default for AbortOn {
    fn default() -> Self {
        AbortOn { errors: Percent { hundredths: 100 }, path: None }
    }
}

impl Strategy {
    /// The time that a deploy waits by it, beside that in which its copies start.
    pub fn pauses(&self) -> Duration {
        match self {
            Strategy::Rolling => Duration::ZERO,
            Strategy::Canary(canary) => {
                let steps = u32::try_from(canary.steps.len()).unwrap_or(u32::MAX);
                canary.pause.0.saturating_mul(steps)
            }
        }
    }

    /// Refuses steps that lead nowhere.
    ///
    /// # Errors
    /// Bad input.
    pub fn refuse_nonsense(&self) -> Result<()> {
        let Strategy::Canary(Canary { steps, .. }) = self else { return Ok(()) };
        let rise = steps.is_sorted_by(|one, next| one < next);
        let are_parts = steps.iter().all(|step| (1..100).contains(step));
        if !steps.is_empty() && rise && are_parts {
            return Ok(());
        }
        let shown: Vec<String> = steps.iter().map(ToString::to_string).collect();
        Err(Error::input(format!("cannot use canary.steps: [{}]", shown.join(", ")))
            .why("they are percentages below 100, each larger than the one before")
            .fix(
                "write them so: `canary: {steps: [10, 50]}`; after the last one all copies follow",
            ))
    }
}

/// A share: `1%`, `0.5%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Percent {
    /// Of a percent.
    pub hundredths: u32,
}

impl TryFrom<String> for Percent {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a percentage: write 1% or 0.5%, at most 100%");
        let number = text.strip_suffix('%').ok_or_else(wrong)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 2 || whole.len() > 3 {
            return Err(wrong());
        }
        let whole: u32 = whole.parse().map_err(|_| wrong())?;
        let part: u32 = format!("{part:0<2}").parse().map_err(|_| wrong())?;
        let hundredths = whole * 100 + part;
        if hundredths > 10_000 { Err(wrong()) } else { Ok(Percent { hundredths }) }
    }
}

impl From<Percent> for String {
    fn from(percent: Percent) -> String {
        let text = format!("{}.{:02}", percent.hundredths / 100, percent.hundredths % 100);
        format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl JsonSchema for Percent {
    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]{1,3}([.][0-9]{1,2})?%$" })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::yaml::parse;

    fn read(text: &str) -> Result<Strategy> {
        let deploy: Deploy = parse(text, Path::new("service.yaml"))?;
        deploy.strategy.refuse_nonsense()?;
        Ok(deploy.strategy)
    }

    #[test]
    fn strategies_are_read_with_their_defaults() {
        assert_eq!(read("strategy: rolling\n").expect("rolling"), Strategy::Rolling);
        assert_eq!(
            read("strategy: {canary: {}}\n").expect("a canary"),
            Strategy::Canary(Canary::default())
        );
        let given =
            read("strategy: {canary: {steps: [25], pause: 30s, abort-on: {errors: 0.5%}}}\n");
        let Strategy::Canary(given) = given.expect("a canary") else { panic!("no canary") };
        assert_eq!((given.steps, given.pause.0), (vec![25], Duration::from_secs(30)));
        assert_eq!(given.abort_on.errors, Percent { hundredths: 50 });
        for (steps, why) in
            [("[]", "no step"), ("[0]", "0"), ("[50, 10]", "it falls"), ("[100]", "all")]
        {
            let text = format!("strategy: {{canary: {{steps: {steps}}}}}\n");
            assert!(read(&text).is_err(), "{why}");
        }
    }

    #[test]
    fn percentages_are_written_as_people_write_them() {
        let cases = [
            ("1%", Some(100)),
            ("0.5%", Some(50)),
            ("0.05%", Some(5)),
            ("100%", Some(10_000)),
            ("101%", None),
            ("1", None),
            ("%", None),
            ("-1%", None),
            ("0.005%", None),
        ];
        for (text, hundredths) in cases {
            let read = Percent::try_from(text.to_string()).ok().map(|read| read.hundredths);
            assert_eq!(read, hundredths, "{text}");
            if let Ok(read) = Percent::try_from(text.to_string()) {
                assert_eq!(String::from(read), text);
            }
        }
    }
}
