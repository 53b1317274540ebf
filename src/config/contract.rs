//! `contract:` of service.yaml: what an image has to keep, how much each rule weighs, and the
//! measures. Pure.

use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{Memory, Span, Variable};

/// The image contract: what is proven of each built image by running it, before anything is pushed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Contract {
    pub rules: Levels,
    /// The most that the layers of one platform may be together, compressed as they are pulled.
    pub size: Memory,
    /// The longest time from SIGTERM to the end of the service.
    pub stop: Span,
    /// Stand-ins for `secrets` and buckets while the image is checked. No secret: they are readable
    /// in this file.
    pub env: IndexMap<Variable, String>,
}

impl Default for Contract {
    fn default() -> Self {
        Contract {
            rules: Levels::default(),
            size: Memory { mebibytes: 1024 },
            stop: Span(Duration::from_secs(10)),
            env: IndexMap::new(),
        }
    }
}

/// What becomes of an image that breaks a rule.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// It is not looked for.
    Off,
    /// It is said, and nothing stops.
    Warn,
    /// The image goes no further: exit code 8.
    Fail,
}

/// Declares the rules once: the enum, the keys of `contract.rules`, and their default levels.
macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident, $field:ident, $name:literal, $level:ident;)*) => {
        /// A rule of the image contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule {
            $($(#[$doc])* $rule,)*
        }

        impl Rule {
            /// Every rule, in the order in which they are told.
            pub const ALL: &[Rule] = &[$(Rule::$rule),*];

            /// As it is written in service.yaml.
            pub fn name(self) -> &'static str {
                match self {
                    $(Rule::$rule => $name,)*
                }
            }
        }

        /// How much each rule weighs.
        #[derive(Clone, Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
        pub struct Levels {
            $($(#[$doc])* pub $field: Level,)*
        }

        impl Default for Levels {
            fn default() -> Self {
                Levels { $($field: Level::$level,)* }
            }
        }

        impl Levels {
            /// The level of one rule.
            pub fn of(&self, rule: Rule) -> Level {
                match rule {
                    $(Rule::$rule => self.$field,)*
                }
            }
        }
    };
}

rules! {
    /// The process starts and keeps running, in both modes.
    Starts, starts, "starts", Fail;
    /// It listens on the declared port, on all addresses, within `health.startup`.
    Listens, listens, "listens", Fail;
    /// The health path answers 2xx within `health.startup`.
    Health, health, "health", Fail;
    /// The mode variable reaches the process.
    Mode, mode, "mode", Fail;
    /// What the service answers or logs differs between the two modes.
    ModeDiffers, mode_differs, "mode-differs", Warn;
    /// Without its `secrets` the service names what is missing and ends with an error, instead of
    /// half-starting.
    RequiredVariables, required_variables, "required-variables", Fail;
    /// No process is root.
    NonRoot, non_root, "non-root", Fail;
    /// Nothing is written to the image's file system: a read-only one would do.
    ReadOnly, read_only, "read-only", Warn;
    /// SIGTERM ends it within `contract.stop`.
    Stops, stops, "stops", Fail;
    /// PID 1 is the service itself, not a shell before it.
    ExecForm, exec_form, "exec-form", Warn;
    /// No file in a layer holds a secret.
    SecretFiles, secret_files, "secret-files", Fail;
    /// No variable, label or build step holds a secret's value.
    SecretVariables, secret_variables, "secret-variables", Fail;
    /// The image keeps to `contract.size`.
    Size, size, "size", Warn;
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Rule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
