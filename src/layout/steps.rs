//! The steps that made an image, as its configuration tells them. Pure.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/config.md#properties>

use serde::Deserialize;

/// What one instruction did to the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryStep {
    /// The instruction, as whoever built wrote it down; empty when nobody did.
    pub created_by: String,
    /// Whether it made no layer.
    pub empty_layer: bool,
}

/// The steps of an image with this configuration, in their order.
///
/// # Errors
/// When it is no configuration.
pub fn read_history(config: &[u8]) -> serde_json::Result<Vec<HistoryStep>> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Config {
        history: Option<Vec<Written>>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Written {
        created_by: Option<String>,
        empty_layer: Option<bool>,
    }
    let step = |Written { created_by, empty_layer }| HistoryStep {
        created_by: created_by.unwrap_or_default(),
        empty_layer: empty_layer.unwrap_or_default(),
    };
    let config: Config = serde_json::from_slice(config)?;
    Ok(config.history.into_iter().flatten().map(step).collect())
}

/// Which step made each of the layers, the lowest first. None, when the steps tell of more or fewer
/// layers than there are: then they tell nothing of any.
pub fn match_layers(steps: &[HistoryStep], layers: usize) -> Vec<usize> {
    let made: Vec<usize> = (0..steps.len()).filter(|at| !steps[*at].empty_layer).collect();
    if made.len() == layers { made } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_layer_has_its_step_or_none_has() {
        let text = br#"{"history": [{"created_by": "COPY . ."}, {"created_by": "ENV A=1", "empty_layer": true}, {"created_by": null}]}"#;
        let steps = read_history(text).expect("a configuration");
        let created_by: Vec<&str> = steps.iter().map(|step| step.created_by.as_str()).collect();
        assert_eq!(created_by, ["COPY . .", "ENV A=1", ""]);
        for (layers, expected) in [(2, &[0, 2][..]), (1, &[]), (3, &[]), (0, &[])] {
            assert_eq!(match_layers(&steps, layers), expected, "{layers}");
        }
        for nothing in ["{}", r#"{"history": null}"#] {
            assert_eq!(read_history(nothing.as_bytes()).expect("a configuration"), []);
        }
        for odd in ["", "7", r#"{"history": 7}"#] {
            read_history(odd.as_bytes()).expect_err(odd);
        }
    }
}
