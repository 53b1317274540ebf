//! What the last report knew, in files beside the site: the next one reads only records that are new.
//!
//! It can be deleted at any time, and is made anew when it cannot be read or another version wrote it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::matrix::Summary;
use super::source::{Broken, Drifts, Records};
use super::text::file_name;
use crate::error::{Cannot, Result};

/// What is known of a service without its records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Known {
    pub summary: Summary,
    pub seen: BTreeMap<String, u64>,
    pub drifts: Drifts,
    pub broken: Vec<Broken>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Fleet {
    /// What the summaries were made by: another one makes them anew.
    key: String,
    services: Vec<Known>,
}

pub struct Index {
    folder: PathBuf,
    key: String,
}

impl Index {
    /// The index in a folder, for summaries made by `key`.
    pub fn new(folder: &Path, key: String) -> Index {
        Index { folder: folder.to_path_buf(), key }
    }

    /// What is known of all services. Nothing, if there is no index or another key made it.
    pub fn read_fleet(&self) -> Vec<Known> {
        let fleet: Fleet = read_packed(&self.folder.join("fleet.json.gz")).unwrap_or_default();
        if fleet.key == self.key { fleet.services } else { Vec::new() }
    }

    pub fn write_fleet(&self, services: Vec<Known>) -> Result<()> {
        let fleet = Fleet { key: self.key.clone(), services };
        write_packed(&self.folder.join("fleet.json.gz"), &fleet)
    }

    /// The records of a service that were read before.
    pub fn read_records(&self, service: &str) -> Records {
        read_packed(&self.place(service)).unwrap_or_default()
    }

    pub fn write_records(&self, service: &str, records: &Records) -> Result<()> {
        write_packed(&self.place(service), records)
    }

    fn place(&self, service: &str) -> PathBuf {
        self.folder.join("services").join(format!("{}.json.gz", file_name(service)))
    }
}

fn read_packed<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let file = GzDecoder::new(BufReader::new(File::open(path).ok()?));
    serde_json::from_reader(BufReader::new(file)).ok()
}

fn write_packed(path: &Path, content: &impl Serialize) -> Result<()> {
    let attempt = || format!("write {}", path.display());
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    let bytes = serde_json::to_vec(content).cannot(attempt)?;
    packed.write_all(&bytes).cannot(attempt)?;
    replace_file(path, &packed.finish().cannot(attempt)?)
}

/// Writes beside, and renames: whoever reads never sees half a file, and a run that is killed leaves
/// that of the one before.
pub fn replace_file(path: &Path, content: &[u8]) -> Result<()> {
    let attempt = || format!("write {}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).cannot(attempt)?;
    }
    let beside = path.with_extension("new");
    std::fs::write(&beside, content).cannot(attempt)?;
    std::fs::rename(&beside, path).cannot(attempt)
}
