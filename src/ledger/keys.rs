//! Where the objects of the ledgers are: their keys in a store. docs/ledger.md has the table. Pure.

use super::state::StateHash;

/// What the ledgers of all services begin with.
pub const ROOT: &str = "cicd/";
/// Where all freezes are, of every service and environment.
pub const FREEZES: &str = "cicd/freezes.json";

/// What all keys of one ledger begin with.
pub fn ledger_folder(service: &str, environment: &str, destination: &str) -> String {
    format!("{ROOT}{service}/{environment}/{destination}/")
}

/// The folder of a ledger's records.
pub fn record_folder(ledger: &str) -> String {
    format!("{ledger}records/")
}

pub fn record_key(ledger: &str, number: u64) -> String {
    format!("{ledger}records/{number:08}.json")
}

/// The number of the record that a key is of.
pub fn read_record_number(key: &str) -> Option<u64> {
    key.rsplit('/').next()?.strip_suffix(".json")?.parse().ok()
}

pub fn head_key(ledger: &str) -> String {
    format!("{ledger}head.json")
}

pub fn state_key(ledger: &str, hash: &StateHash) -> String {
    format!("{ledger}states/{hash}.json.gz")
}

pub fn drift_key(ledger: &str) -> String {
    format!("{ledger}drift.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_by_its_number() {
        let ledger = ledger_folder("patients", "staging", "docker");
        assert_eq!(ledger, "cicd/patients/staging/docker/");
        for number in [1, 42, 123_456_789] {
            let key = record_key(&ledger, number);
            assert!(key.starts_with(&record_folder(&ledger)), "{key}");
            assert_eq!(read_record_number(&key), Some(number));
        }
        assert_eq!(read_record_number("cicd/a/b/c/records/readme.txt"), None);
    }
}
