//! cron's five fields → EventBridge Scheduler's expression. Pure.
//!
//! Each field becomes the list of what it names: cron counts Sunday as 0 and 7, EventBridge as 1, and
//! writes steps otherwise. <https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html>

use std::collections::BTreeSet;

/// One of cron's fields.
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    /// Names of values, from `least` on.
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, most: 59, words: &[] },
    Field { name: "hour", least: 0, most: 23, words: &[] },
    Field { name: "day of month", least: 1, most: 31, words: &[] },
    Field { name: "month", least: 1, most: 12, words: &MONTHS },
    // 7 is Sunday too.
    Field { name: "day of week", least: 0, most: 7, words: &DAYS },
];
const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// The schedule of EventBridge that fires when cron would.
///
/// # Errors
/// In words: why it is none, or cannot be told EventBridge.
pub fn to_expression(schedule: &str) -> Result<String, String> {
    let schedule = match schedule.trim() {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" | "@annually" => "0 0 1 1 *",
        other => other,
    };
    let texts: Vec<&str> = schedule.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = texts.as_slice() else {
        return Err(format!("it has {} fields, and cron has five", texts.len()));
    };
    let read = |text: &str, at: usize| read_field(text, &FIELDS[at]);
    let (minutes, hours) = (read(minute, 0)?, read(hour, 1)?);
    let (days, months) = (read(day, 2)?, read(month, 3)?);
    let weekdays: BTreeSet<u32> = read(weekday, 4)?.into_iter().map(|day| day % 7).collect();
    let any_weekday = weekdays.len() == 7;
    let any_day = days.len() == 31;
    let (day, weekday) = match (any_day, any_weekday) {
        (_, true) => (write_list(&days, &FIELDS[2]), "?".to_string()),
        (true, false) => {
            let names = weekdays.iter().filter_map(|day| DAYS.get(*day as usize));
            ("?".to_string(), names.copied().collect::<Vec<_>>().join(","))
        }
        (false, false) => {
            return Err("it names days of the month and of the week, which cron takes as either, \
                        and EventBridge cannot be told"
                .into());
        }
    };
    let [minute, hour, month] =
        [(&minutes, 0), (&hours, 1), (&months, 3)].map(|(set, at)| write_list(set, &FIELDS[at]));
    Ok(format!("cron({minute} {hour} {day} {month} {weekday} *)"))
}

/// What a field names: `*`, `5`, `1-5`, `*/15`, `MON,WED`.
fn read_field(text: &str, field: &Field) -> Result<BTreeSet<u32>, String> {
    let wrong = || format!("`{text}` is no {}", field.name);
    let value = |text: &str| -> Option<u32> {
        let word = field.words.iter().position(|word| text.eq_ignore_ascii_case(word));
        let word = word.and_then(|at| u32::try_from(at).ok()).map(|at| at + field.least);
        let value = word.or_else(|| text.parse().ok())?;
        (field.least..=field.most).contains(&value).then_some(value)
    };
    let mut values = BTreeSet::new();
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse().ok().filter(|step| *step > 0)),
            None => (part, Some(1)),
        };
        let step: u32 = step.ok_or_else(wrong)?;
        let whole = (field.least, if field.words.len() == 7 { 6 } else { field.most });
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => whole,
            Some((from, to)) => (value(from).ok_or_else(wrong)?, value(to).ok_or_else(wrong)?),
            None => {
                let from = value(range).ok_or_else(wrong)?;
                // `5/10` goes on to the end.
                (from, if part.contains('/') { whole.1 } else { from })
            }
        };
        if from > to {
            return Err(wrong());
        }
        values.extend((from..=to).step_by(step as usize));
    }
    Ok(values)
}

/// `*` for all that a field can be, else its values, those in a row as `1-5`.
fn write_list(values: &BTreeSet<u32>, field: &Field) -> String {
    if values.len() == (field.most - field.least + 1) as usize {
        return "*".into();
    }
    let mut rows: Vec<(u32, u32)> = Vec::new();
    for value in values {
        match rows.last_mut() {
            Some((_, last)) if *last + 1 == *value => *last = *value,
            _ => rows.push((*value, *value)),
        }
    }
    let write = |(from, to): (u32, u32)| match to - from {
        0 => from.to_string(),
        1 => format!("{from},{to}"),
        _ => format!("{from}-{to}"),
    };
    rows.into_iter().map(write).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cron_becomes_an_expression_of_eventbridge() {
        let cases = [
            ("0 3 * * *", "cron(0 3 * * ? *)"),
            ("* * * * *", "cron(* * * * ? *)"),
            ("*/15 * * * *", "cron(0,15,30,45 * * * ? *)"),
            ("5/20 * * * *", "cron(5,25,45 * * * ? *)"),
            ("0 9-17 * * 1-5", "cron(0 9-17 ? * MON,TUE,WED,THU,FRI *)"),
            ("0 0 * * 0", "cron(0 0 ? * SUN *)"),
            ("0 0 * * 7", "cron(0 0 ? * SUN *)"),
            ("0 0 * * 5-7", "cron(0 0 ? * SUN,FRI,SAT *)"),
            ("0 0 * * mon,Wed", "cron(0 0 ? * MON,WED *)"),
            ("0 0 * * */2", "cron(0 0 ? * SUN,TUE,THU,SAT *)"),
            ("0 0 1,15 JAN-MAR *", "cron(0 0 1,15 1-3 ? *)"),
            ("0 0 */10 * *", "cron(0 0 1,11,21,31 * ? *)"),
            ("0 0 1-31 * 1", "cron(0 0 ? * MON *)"),
            ("@daily", "cron(0 0 * * ? *)"),
            ("@weekly", "cron(0 0 ? * SUN *)"),
        ];
        for (schedule, expected) in cases {
            assert_eq!(to_expression(schedule).as_deref(), Ok(expected), "{schedule}");
        }
        let wrong = [
            ("0 3 * *", "it has 4 fields"),
            ("60 3 * * *", "`60` is no minute"),
            ("0 3 * * 8", "`8` is no day of week"),
            ("0 3 0 * *", "`0` is no day of month"),
            ("0 5-3 * * *", "`5-3` is no hour"),
            ("*/0 * * * *", "`*/0` is no minute"),
            ("0 3 * FOO *", "`FOO` is no month"),
            ("0 3 1 * 1", "which cron takes as either"),
            ("", "it has 0 fields"),
        ];
        for (schedule, expected) in wrong {
            let why = to_expression(schedule).expect_err(schedule);
            assert!(why.contains(expected), "{schedule}: {why}");
        }
    }
}
