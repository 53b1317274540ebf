//! AWS's words for states, as enums. A word of tomorrow is kept as it is. Pure.

use std::fmt;

macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$of])* $variant,)*
            Unknown(String),
        }

        impl From<&str> for $name {
            fn from(word: &str) -> $name {
                match word {
                    $($word => $name::$variant,)*
                    other => $name::Unknown(other.to_string()),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $($name::$variant => $word,)*
                    $name::Unknown(word) => word,
                })
            }
        }
    };
}

states!(
    /// How far the rollout of a deployment is.
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Deployment.html>
    Rollout {
        InProgress = "IN_PROGRESS",
        Completed = "COMPLETED",
        Failed = "FAILED",
    }
);

states!(
    /// Why a task was stopped.
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Task.html>
    StopCode {
        TaskFailedToStart = "TaskFailedToStart",
        EssentialContainerExited = "EssentialContainerExited",
        UserInitiated = "UserInitiated",
        ServiceSchedulerInitiated = "ServiceSchedulerInitiated",
        SpotInterruption = "SpotInterruption",
        TerminationNotice = "TerminationNotice",
    }
);

states!(
    /// Where a task is in its life.
    /// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-lifecycle-explanation.html>
    TaskState {
        /// ECS looks for room, or makes a network interface.
        Provisioning = "PROVISIONING",
        /// The agent or Fargate has yet to take it: images are pulled.
        Pending = "PENDING",
        Activating = "ACTIVATING",
        Running = "RUNNING",
        Deactivating = "DEACTIVATING",
        Stopping = "STOPPING",
        Deprovisioning = "DEPROVISIONING",
        Stopped = "STOPPED",
        Deleted = "DELETED",
    }
);

states!(
    /// <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-vpc-links.html>
    LinkState {
        Available = "AVAILABLE",
        Pending = "PENDING",
        Deleting = "DELETING",
        Failed = "FAILED",
        /// Nothing went through it for sixty days; it wakes with the first request.
        Inactive = "INACTIVE",
    }
);

states!(
    /// What a listener speaks. Those of network load balancers are of no use here.
    #[derive(Default)]
    ListenerProtocol {
        #[default]
        Http = "HTTP",
        Https = "HTTPS",
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_not_known_is_kept() {
        for word in ["COMPLETED", "FAILED", "PAUSED"] {
            assert_eq!(Rollout::from(word).to_string(), word);
        }
        assert_eq!(Rollout::from("COMPLETED"), Rollout::Completed);
        assert_eq!(Rollout::from("PAUSED"), Rollout::Unknown("PAUSED".into()));
    }
}
