//! IAM users with few rights, for tests of what happens when something is denied: the stack checks
//! every call.

use std::process::Command;

use serde_json::Value;

use crate::support::run;

/// The stack's cluster.
const CLUSTER: &str = "clinicult-staging";

/// The role that EventBridge Scheduler starts tasks by: one for all tests.
pub fn scheduler_role() -> String {
    let trust = serde_json::json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": { "Service": "scheduler.amazonaws.com" },
        "Action": "sts:AssumeRole",
    }] });
    let create = ["iam", "create-role", "--role-name", "scheduler"];
    let trust = ["--assume-role-policy-document", &trust.to_string()];
    // Another test may have made it.
    run(Command::new("aws").args(create).args(trust));
    "arn:aws:iam::111122223333:role/scheduler".to_string()
}

/// An IAM user of its own, who may do what `actions` say (JSON) and nothing else; gone with the
/// test.
pub struct User {
    name: String,
    key: String,
    secret: String,
}

impl Drop for User {
    fn drop(&mut self) {
        for arguments in [
            vec!["delete-access-key", "--access-key-id", &self.key],
            vec!["delete-user-policy", "--policy-name", "own"],
            vec!["delete-user"],
        ] {
            let _ = Command::new("aws")
                .arg("iam")
                .args(arguments)
                .args(["--user-name", &self.name])
                .output();
        }
        let arn = self.arn();
        let entry =
            ["eks", "delete-access-entry", "--cluster-name", CLUSTER, "--principal-arn", &arn];
        let _ = Command::new("aws").args(entry).output();
    }
}

impl User {
    pub fn new(name: String, actions: &str) -> User {
        let iam = |arguments: &[&str]| {
            run(Command::new("aws").arg("iam").args(arguments)).ended(0).stdout
        };
        iam(&["create-user", "--user-name", &name]);
        let answer = iam(&["create-access-key", "--user-name", &name, "--output", "json"]);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let part = |part: &str| answer["AccessKey"][part].as_str().expect("a key").to_string();
        let user = User { key: part("AccessKeyId"), secret: part("SecretAccessKey"), name };
        user.may(actions);
        user
    }

    /// From here on the user may do what `actions` say, and nothing else.
    pub fn may(&self, actions: &str) {
        let statement = format!(r#"{{"Effect": "Allow", "Action": {actions}, "Resource": "*"}}"#);
        self.has_policy(&format!(r#"{{"Version": "2012-10-17", "Statement": [{statement}]}}"#));
    }

    /// From here on the user may do what a policy says, and nothing else.
    pub fn has_policy(&self, policy: &str) {
        let put = [
            "iam",
            "put-user-policy",
            "--user-name",
            &self.name,
            "--policy-name",
            "own",
            "--policy-document",
        ];
        run(Command::new("aws").args(put).arg(policy)).ended(0);
    }

    pub fn arn(&self) -> String {
        format!("arn:aws:iam::111122223333:user/{}", self.name)
    }

    /// Lets the user into the cluster, as a member of `group`.
    pub fn enters(&self, group: &str) {
        let arn = self.arn();
        let entry =
            ["eks", "create-access-entry", "--cluster-name", CLUSTER, "--principal-arn", &arn];
        run(Command::new("aws").args(entry).args(["--kubernetes-groups", group])).ended(0);
    }

    /// Has a command act as this user.
    pub fn on<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("AWS_ACCESS_KEY_ID", &self.key).env("AWS_SECRET_ACCESS_KEY", &self.secret)
    }
}
