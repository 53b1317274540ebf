//! How far the protocol is searched, and that a search notices what is broken.

use std::collections::BTreeSet;

use super::{Bounds, Found, Mutation, Search};

const TWO: Bounds = Bounds {
    name: "two runs",
    runs: 2,
    renewals: 0,
    lost: 1,
    unreadable: 0,
    patience: 6,
    crashes: 1,
    freezes: false,
    states: false,
    wishes: false,
    newer: false,
    same_machine: false,
    odd_is_bad: false,
    only_close: false,
    quick_reads: false,
};

fn search(bounds: Bounds, mutation: Mutation) -> (Found, Result<(), String>) {
    let mut search = Search { bounds, mutation, found: Found::default() };
    let result = search.explore();
    (search.found, result)
}

/// Searches within all of `bounds`, and shows how far that was. `wanted` was reached on the way.
fn search_all(all: &[Bounds], wanted: &[&str]) {
    let (mut states, mut transitions, mut reached) = (0, 0, BTreeSet::new());
    for bounds in all {
        let (found, result) = search(*bounds, Mutation::None);
        if let Err(wrong) = result {
            panic!("{}: {wrong}", bounds.name);
        }
        states += found.states;
        transitions += found.transitions;
        let (seen, name) = (found.states, bounds.name);
        show(format!("{name}: {seen} states, {} transitions", found.transitions));
        reached.extend(found.reached);
    }
    show(format!("in all: {states} states, {transitions} transitions"));
    for wanted in wanted {
        assert!(reached.contains(wanted), "{wanted}: never reached");
    }
}

#[test]
fn never_two_hold_the_lock_and_every_killed_run_is_seen() {
    search_all(
        &[
            Bounds { name: "two runs, a lost answer", ..TWO },
            Bounds { name: "a newer run waits", newer: true, odd_is_bad: true, lost: 0, ..TWO },
            Bounds { name: "two runs, renewing", renewals: 1, lost: 0, only_close: true, ..TWO },
            // A run that is never heard of again has crashed, too.
            Bounds {
                name: "three runs",
                runs: 3,
                lost: 0,
                crashes: 0,
                only_close: true,
                quick_reads: true,
                ..TWO
            },
        ],
        &USUAL,
    );
}

/// The ends that need a store which fails for long, or a person.
#[test]
fn a_run_that_gives_up_or_finds_a_freeze_breaks_nothing() {
    let impatient = Bounds { patience: 1, crashes: 0, only_close: true, ..TWO };
    search_all(
        &[
            Bounds { name: "a store that fails for long", lost: 1, unreadable: 1, ..impatient },
            Bounds { name: "a freeze, and a state", freezes: true, states: true, ..TWO },
        ],
        &["a run gives up", "a run finds a freeze", "a run closes"],
    );
}

const USUAL: [&str; 5] = [
    "a killed run is seen",
    "a lock is taken over",
    "a run closes",
    "a run is fenced out",
    "a run is refused",
];

#[test]
#[ignore = "takes minutes where nothing is optimised"]
fn never_two_hold_the_lock_in_a_wider_search() {
    search_all(
        &[
            Bounds { name: "two runs, two lost answers", lost: 2, ..TWO },
            Bounds { name: "two runs, renewing, a lost answer", renewals: 1, ..TWO },
            Bounds { name: "one machine", same_machine: true, renewals: 1, lost: 0, ..TWO },
            Bounds { name: "three runs", runs: 3, lost: 0, ..TWO },
            Bounds { name: "three runs, two crash", runs: 3, lost: 0, crashes: 2, ..TWO },
            Bounds {
                name: "a store that fails for long, and a crash",
                renewals: 1,
                unreadable: 1,
                patience: 1,
                wishes: true,
                only_close: true,
                states: true,
                ..TWO
            },
        ],
        &USUAL,
    );
}

#[expect(
    clippy::disallowed_macros,
    clippy::print_stdout,
    reason = "the size of the search is what a reader asks for"
)]
fn show(text: String) {
    println!("{text}");
}

#[test]
fn a_protocol_that_is_broken_is_noticed() {
    let broken = [
        (Mutation::TakeOverUnconditionally, "a fencing number does not grow"),
        (Mutation::TakeOverBeforeExpiry, "two runs hold the lock"),
        (Mutation::FenceStays, "a fencing number does not grow"),
        (Mutation::WriteUnchecked, "a run that was fenced out writes"),
        (Mutation::ForgetTheDead, "a killed run was not seen"),
        (Mutation::RecordIsOverwritten, "a record"),
    ];
    for (mutation, expected) in broken {
        let (_, result) = search(TWO, mutation);
        let wrong = result.expect_err("noticed");
        show(format!("{mutation:?}: {wrong}"));
        assert!(wrong.contains(expected), "{mutation:?}: {wrong}");
    }
}
