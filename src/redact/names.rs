//! Secrets by their variable's name, and the values of such names that are none. Pure.

/// Whether a variable of this name holds a secret, as far as its name says.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_uppercase();
    let harmless = [
        "_FILE",
        "_PATH",
        "_URL",
        "_ID",
        "_NAME",
        "_TTL",
        "_ALGORITHM",
        "_MINUTES",
        "_SECONDS",
        "_LIFETIME",
        "_LENGTH",
        "_LIMIT",
        "_HEADER",
        "_TYPE",
        "_ISSUER",
        "_AUDIENCE",
        "_SIZE",
        "_COUNT",
        "_EXPIRY",
        "_EXPIRES",
        "_ENABLED",
        "_REQUIRED",
        "_POLICY",
    ];
    // What a frontend's framework puts into the browser's code under these names is public; the
    // others begin the names of switches.
    let starts = [
        "VITE_",
        "REACT_APP_",
        "GATSBY_",
        "VUE_APP_",
        "USE_",
        "ENABLE_",
        "DISABLE_",
        "REQUIRE_",
        "SKIP_",
    ];
    let parts: Vec<&str> = name.split('_').collect();
    let is = |word: &str| parts.contains(&word);
    if is("PUBLIC") || starts.iter().any(|start| name.starts_with(start)) {
        return false;
    }
    let key = is("KEY")
        && [
            "API",
            "SECRET",
            "PRIVATE",
            "ACCESS",
            "SIGNING",
            "HMAC",
            "JWT",
            "ENCRYPTION",
            "SSH",
            "DEPLOY",
            "MASTER",
        ]
        .iter()
        .any(|word| is(word));
    let words = [
        "PASSWORD",
        "PASSWD",
        "PASSPHRASE",
        "PASS",
        "SECRET",
        "TOKEN",
        "CREDENTIAL",
        "CREDENTIALS",
        "APIKEY",
        "PAT",
    ];
    // `PGPASSWORD`, `AUTHTOKEN`; alone, PWD is the folder that a shell is in.
    let ends = |part: &&str| ["PASSWORD", "SECRET", "TOKEN"].iter().any(|end| part.ends_with(end));
    let secret = words.iter().any(|word| is(word))
        || parts.iter().any(ends)
        || parts.len() > 1 && parts.last() == Some(&"PWD") && name != "OLD_PWD"
        || key;
    name == "AWS_ACCESS_KEY_ID" || secret && !harmless.iter().any(|end| name.ends_with(end))
}

/// Whether a value is a switch or a small number, which no secret is.
pub fn is_switch(value: &str) -> bool {
    let value = value.trim_matches(['"', '\'']).to_lowercase();
    let switches = ["true", "false", "yes", "no", "on", "off", "none", "null"];
    let number = value.len() < 6 && value.bytes().all(|byte| byte.is_ascii_digit());
    !value.is_empty() && (number || switches.contains(&value.as_str()))
}

/// Whether a value of such a variable is no secret after all: a switch, a small number, or a
/// stand-in for a build that asks for some value.
pub fn is_stand_in(value: &str) -> bool {
    const LONGEST: usize = 24;
    let value = value.trim_matches(['"', '\'']).to_lowercase();
    let stand_ins = ["dummy", "placeholder", "changeme", "fake", "example", "test", "build"];
    let phrases = ["change-me", "change_me", "not-set", "not_set"];
    let letters = value.len() <= LONGEST
        && value.bytes().all(|byte| byte.is_ascii_lowercase() || b"-_ ".contains(&byte));
    let says = value.split(['-', '_', ' ']).any(|word| stand_ins.contains(&word))
        || phrases.iter().any(|phrase| value.contains(phrase));
    is_switch(&value) || letters && says
}
