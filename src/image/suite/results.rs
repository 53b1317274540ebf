//! What a test run says of itself: results as JUnit's XML has them, which every framework writes,
//! and coverage as Cobertura's. Pure.
//!
//! <https://github.com/testmoapp/junitxml>

use xmlparser::{ElementEnd, Token, Tokenizer};

use crate::xml::unescape;

/// As many failed tests as are kept.
const MOST: usize = 1_000;

/// How many tests ran, and which of them failed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results {
    pub tests: u64,
    pub failures: u64,
    pub skipped: u64,
    /// The seconds that the tests took, together.
    pub seconds: f64,
    pub failed: Vec<FailedTest>,
    /// The share of lines that ran, from 0 to 1.
    pub coverage: Option<f64>,
}

/// A test that failed, or that could not run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailedTest {
    pub name: String,
    pub file: Option<String>,
    pub line: Option<u64>,
    /// Why, in a line.
    pub message: String,
    /// What the framework says of it: mostly where it happened.
    pub detail: String,
}

/// A test case that is being read.
#[derive(Default)]
struct Case {
    class: String,
    test: FailedTest,
    seconds: f64,
    has_failed: bool,
    is_skipped: bool,
}

impl Results {
    /// Adds what one report says: test results, or coverage.
    ///
    /// # Errors
    /// Why it is neither.
    pub fn read(&mut self, text: &str) -> Result<(), String> {
        // What tells the kind of a report, and a value of its root.
        let mut root = None;
        let mut element = String::new();
        let mut case: Option<Case> = None;
        let mut in_failure = false;
        let mut open = 0_u32;
        for token in Tokenizer::from(text) {
            match token.map_err(|error| format!("it is no XML: {error}"))? {
                Token::ElementStart { local, .. } => {
                    element = local.as_str().to_string();
                    open += 1;
                    root.get_or_insert_with(|| element.clone());
                    match (element.as_str(), case.as_mut()) {
                        ("testcase", _) => case = Some(Case::default()),
                        ("failure" | "error", Some(case)) => case.has_failed = true,
                        ("skipped", Some(case)) => case.is_skipped = true,
                        _ => {}
                    }
                }
                Token::Attribute { local, value, .. } => {
                    let value = unescape(value.as_str());
                    if element == "coverage" && local.as_str() == "line-rate" {
                        self.coverage = value.parse().ok();
                    }
                    if let Some(case) = &mut case {
                        case.take_attribute(&element, local.as_str(), value);
                    }
                }
                Token::ElementEnd { end, .. } => match end {
                    ElementEnd::Open => {
                        in_failure = matches!(element.as_str(), "failure" | "error")
                    }
                    ElementEnd::Close(_, local) => {
                        in_failure = false;
                        open = open.saturating_sub(1);
                        if local.as_str() == "testcase" {
                            self.add(case.take());
                        }
                    }
                    ElementEnd::Empty => {
                        open = open.saturating_sub(1);
                        if element == "testcase" {
                            self.add(case.take());
                        }
                    }
                },
                Token::Text { text } => {
                    if let Some(case) = case.as_mut().filter(|_| in_failure) {
                        case.test.detail.push_str(&unescape(text.as_str()));
                    }
                }
                Token::Cdata { text, .. } => {
                    if let Some(case) = case.as_mut().filter(|_| in_failure) {
                        case.test.detail.push_str(text.as_str());
                    }
                }
                _ => {}
            }
        }
        match root.as_deref() {
            // Whoever wrote it was stopped: what is missing may have failed.
            Some(_) if open > 0 => Err("it ends in the middle".into()),
            Some("testsuites" | "testsuite" | "coverage") => Ok(()),
            Some(root) => Err(format!(
                "it begins with <{root}>: known are <testsuites> of JUnit and <coverage> of Cobertura"
            )),
            None => Err("it is empty".into()),
        }
    }

    fn add(&mut self, case: Option<Case>) {
        let Some(case) = case else { return };
        self.tests += 1;
        self.seconds += case.seconds;
        self.skipped += u64::from(case.is_skipped);
        if !case.has_failed {
            return;
        }
        self.failures += 1;
        let mut test = case.test;
        if !case.class.is_empty() && !test.name.starts_with(&case.class) {
            test.name = format!("{}::{}", case.class, test.name);
        }
        if test.message.is_empty() {
            let first = test.detail.lines().map(str::trim).find(|line| !line.is_empty());
            test.message = first.unwrap_or("it failed").to_string();
        }
        if self.failed.len() < MOST {
            self.failed.push(test);
        }
    }

    /// What happened, in a line.
    pub fn in_words(&self) -> String {
        let mut words = match self.tests {
            0 => "no test ran".to_string(),
            1 => "1 test".to_string(),
            tests => format!("{tests} tests"),
        };
        for (count, what) in [(self.failures, "failed"), (self.skipped, "skipped")] {
            if count > 0 {
                words.push_str(&format!(", {count} {what}"));
            }
        }
        if let Some(coverage) = self.coverage {
            words.push_str(&format!(", {:.1} % of the lines", coverage * 100.0));
        }
        words
    }
}

impl Case {
    fn take_attribute(&mut self, element: &str, name: &str, value: String) {
        match (element, name) {
            ("testcase", "name") => self.test.name = value,
            ("testcase", "classname") => self.class = value,
            ("testcase", "file") => self.test.file = Some(value),
            // pytest counts from 0 in some of its formats; the line is a hint.
            ("testcase", "line") => self.test.line = value.parse().ok(),
            ("testcase", "time") => self.seconds = value.parse().unwrap_or(0.0),
            ("failure" | "error", "message") => self.test.message = first_line(&value),
            _ => {}
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PYTEST: &str = r#"<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest" errors="0" failures="1" skipped="1" tests="3" time="0.05">
        <testcase classname="tests.test_main" name="test_ok" time="0.010"/>
        <testcase classname="tests.test_main" name="test_off" time="0"><skipped type="pytest.skip" message="not here">x</skipped></testcase>
        <testcase classname="tests.test_main" name="test_sum[&quot;a&quot;]" file="tests/test_main.py" line="12" time="0.020"><failure message="assert 1 == 2&#10;more">def test_sum():
&gt;   assert 1 == 2</failure></testcase></testsuite></testsuites>"#;

    #[test]
    fn reports_of_each_kind_are_read() {
        let read = |reports: &[&str]| {
            let mut results = Results::default();
            reports.iter().try_for_each(|text| results.read(text)).map(|()| results)
        };
        let results = read(&[PYTEST]).expect("a report");
        assert_eq!(results.in_words(), "3 tests, 1 failed, 1 skipped");
        assert!((results.seconds - 0.03).abs() < 1e-9);
        let failed = FailedTest {
            name: "tests.test_main::test_sum[\"a\"]".into(),
            file: Some("tests/test_main.py".into()),
            line: Some(12),
            message: "assert 1 == 2".into(),
            detail: "def test_sum():\n>   assert 1 == 2".into(),
        };
        assert_eq!(results.failed, [failed]);
        // Several suites without a root around them, an error instead of a failure, CDATA.
        let go = "<testsuite><testcase name=\"TestA\"><error><![CDATA[ \n panic: a < b]]></error></testcase><testcase name=\"TestB\"></testcase></testsuite>";
        let results = read(&[PYTEST, go]).expect("reports");
        assert_eq!(results.in_words(), "5 tests, 2 failed, 1 skipped");
        assert_eq!(results.failed[1].message, "panic: a < b");
        let coverage = "<?xml version=\"1.0\"?>\n<!DOCTYPE coverage SYSTEM \"x\">\n<coverage line-rate=\"0.8731\" branch-rate=\"0\"><packages/></coverage>";
        let results = read(&[go, coverage]).expect("reports");
        assert_eq!(results.in_words(), "2 tests, 1 failed, 87.3 % of the lines");
        assert_eq!(read(&["<testsuites/>"]).expect("one").in_words(), "no test ran");
        for (text, why) in [
            ("", "it is empty"),
            ("<html></html>", "it begins with <html>"),
            ("not XML", "it is no XML"),
            ("<testsuite><testcase", "it ends in the middle"),
            ("<testsuite><testcase name=\"a\"/>", "it ends in the middle"),
        ] {
            let refused = read(&[text]).expect_err(text);
            assert!(refused.starts_with(why), "{text}: {refused}");
        }
    }
}
