//! `freezes.json`: the environments that persons closed, of one service or of all. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::nonce::Nonce;
use super::record::FORMAT;

/// Stands for all services of an environment.
pub const ALL_SERVICES: &str = "*";

/// A person's lock on an environment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Freeze {
    /// A service's name, or `*` for all.
    pub service: String,
    pub environment: String,
    pub who: String,
    pub reason: String,
    pub since: Timestamp,
    /// From here on deploys run again.
    pub until: Timestamp,
    /// Fields of a later version of this program.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// All freezes of a ledger, as they are stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Freezes {
    pub format: u32,
    pub freezes: Vec<Freeze>,
    pub nonce: Nonce,
    /// Fields of a later version of this program.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Freezes {
    /// The freeze that holds `service` in `environment` at `now`: of several, the one that ends
    /// last.
    pub fn in_force(&self, service: &str, environment: &str, now: Timestamp) -> Option<&Freeze> {
        let concerns = |freeze: &&Freeze| {
            freeze.environment == environment
                && (freeze.service == service || freeze.service == ALL_SERVICES)
                && now < freeze.until
        };
        self.freezes.iter().filter(concerns).max_by_key(|freeze| freeze.until)
    }

    /// These freezes with `freeze` in the place of another of its name, and without those that
    /// ended by `now`.
    pub fn with(&self, freeze: Freeze, now: Timestamp, nonce: Nonce) -> Freezes {
        let (mut rest, _) = self.without(&freeze.service, &freeze.environment, now, nonce);
        rest.freezes.push(freeze);
        rest
    }

    /// These freezes without the one of exactly this service and environment, which is returned if
    /// it was in force, and without those that ended by `now`.
    pub fn without(
        &self,
        service: &str,
        environment: &str,
        now: Timestamp,
        nonce: Nonce,
    ) -> (Freezes, Option<Freeze>) {
        let in_force = self.freezes.iter().filter(|freeze| now < freeze.until);
        let (taken, freezes): (Vec<Freeze>, Vec<Freeze>) = in_force
            .cloned()
            .partition(|freeze| freeze.service == service && freeze.environment == environment);
        let other = self.other.clone();
        (Freezes { format: FORMAT, freezes, nonce, other }, taken.into_iter().next_back())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn freeze(service: &str, environment: &str, until: i64) -> Freeze {
        let (service, environment) = (service.to_string(), environment.to_string());
        Freeze { service, environment, until: at(until), ..Freeze::default() }
    }

    #[test]
    fn a_freeze_holds_its_own_service_and_environment_until_its_end() {
        struct Case {
            freezes: Vec<Freeze>,
            now: i64,
            until: Option<i64>,
        }
        let case = |freezes: Vec<Freeze>, now, until| Case { freezes, now, until };
        let own = freeze("patients", "production", 100);
        let all = freeze("*", "production", 200);
        let cases = [
            case(vec![], 0, None),
            case(vec![own.clone()], 99, Some(100)),
            case(vec![own.clone()], 100, None),
            case(vec![all.clone(), own.clone()], 50, Some(200)),
            case(vec![all, own], 150, Some(200)),
            case(vec![freeze("visits", "production", 100)], 0, None),
            case(vec![freeze("patients", "staging", 100), freeze("*", "staging", 100)], 0, None),
        ];
        for Case { freezes, now, until } in cases {
            let freezes = Freezes { freezes, ..Freezes::default() };
            let found = freezes.in_force("patients", "production", at(now));
            assert_eq!(found.map(|freeze| freeze.until), until.map(at), "{freezes:?} at {now}");
        }
    }

    #[test]
    fn one_freeze_takes_the_place_of_another_of_its_name_only() {
        let nonce = Nonce::default();
        let names = |freezes: &Freezes| {
            let name = |freeze: &Freeze| format!("{} {}", freeze.service, freeze.until.as_second());
            freezes.freezes.iter().map(name).collect::<Vec<_>>()
        };
        let stored = [freeze("*", "production", 9), freeze("visits", "production", 5)];
        let stored = Freezes { freezes: stored.to_vec(), ..Freezes::default() };
        let with = stored.with(freeze("patients", "production", 7), at(1), nonce);
        assert_eq!(names(&with), ["* 9", "visits 5", "patients 7"]);
        let longer = with.with(freeze("patients", "production", 8), at(1), nonce);
        assert_eq!(names(&longer), ["* 9", "visits 5", "patients 8"]);
        let (without, taken) = longer.without("patients", "production", at(6), nonce);
        assert_eq!(names(&without), ["* 9"], "what ended meanwhile goes too");
        assert_eq!(taken.map(|freeze| freeze.until), Some(at(8)));
        assert_eq!(longer.without("patients", "production", at(8), nonce).1, None, "it was over");
        assert_eq!(longer.without("patients", "staging", at(1), nonce).1, None);
    }
}
