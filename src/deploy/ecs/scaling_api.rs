//! What is said to Application Auto Scaling. SDK types end here.

use futures::future::try_join;
use serde_json::Value;

use super::scaling::{ScalingFound, ScalingStep, to_input};
use crate::aws::Session;
use crate::aws::call::{Caller, Failure};
use crate::aws::document::exchange;
use crate::deploy::pen::Pen;
use crate::error::Result;

pub struct ScalingApi {
    caller: Caller,
    client: aws_sdk_applicationautoscaling::Client,
}

impl ScalingApi {
    pub fn new(session: &Session) -> ScalingApi {
        let caller = Caller::new(session);
        let client = aws_sdk_applicationautoscaling::Client::new(caller.config());
        ScalingApi { client, caller }
    }

    /// How a service is scaled, by what names its count.
    pub async fn find(&self, whose: &Value) -> Result<ScalingFound> {
        let id = whose["ResourceId"].as_str().unwrap_or_default();
        let attempt = format!("find the autoscaling of {id}");
        let mut targets = whose.clone();
        targets["ResourceIds"] = Value::from(vec![id]);
        targets.as_object_mut().map(|fields| fields.remove("ResourceId"));
        let describe_targets = || {
            exchange(Some(&targets), |exchange| {
                self.client.describe_scalable_targets().customize().interceptor(exchange).send()
            })
        };
        let describe_policies = || {
            exchange(Some(whose), |exchange| {
                self.client.describe_scaling_policies().customize().interceptor(exchange).send()
            })
        };
        let (targets, policies) = try_join(
            self.caller.read(
                &attempt,
                "application-autoscaling:DescribeScalableTargets",
                describe_targets,
            ),
            self.caller.read(
                &attempt,
                "application-autoscaling:DescribeScalingPolicies",
                describe_policies,
            ),
        )
        .await?;
        let list = |answer: &Value, key: &str| -> Vec<Value> {
            answer[key].as_array().into_iter().flatten().map(to_input).collect()
        };
        Ok(ScalingFound {
            target: list(&targets, "ScalableTargets").pop(),
            policies: list(&policies, "ScalingPolicies"),
        })
    }

    /// Makes one call.
    pub async fn apply(&self, step: &ScalingStep, pen: Pen<'_>) -> Result<()> {
        let pen = pen.reaching_users();
        let id = |document: &Value| document["ResourceId"].as_str().unwrap_or_default().to_string();
        match step {
            ScalingStep::Register(target) => {
                let attempt = format!("have {} scaled", id(target));
                let register = || {
                    exchange(Some(target), |exchange| {
                        let register = self.client.register_scalable_target();
                        register.customize().interceptor(exchange).send()
                    })
                };
                let action = "application-autoscaling:RegisterScalableTarget";
                self.caller.write(&attempt, action, &pen, register).await?;
            }
            ScalingStep::PutPolicy(policy) => {
                let attempt = format!("put the scaling policy of {}", id(policy));
                let put = || {
                    exchange(Some(policy), |exchange| {
                        self.client.put_scaling_policy().customize().interceptor(exchange).send()
                    })
                };
                let action = "application-autoscaling:PutScalingPolicy";
                self.caller.write(&attempt, action, &pen, put).await?;
            }
            ScalingStep::DeletePolicy(policy) => {
                let attempt = format!("delete the scaling policy of {}", id(policy));
                let whose = keep_names(policy, &["PolicyName"]);
                let delete = || {
                    exchange(Some(&whose), |exchange| {
                        self.client.delete_scaling_policy().customize().interceptor(exchange).send()
                    })
                };
                let action = "application-autoscaling:DeleteScalingPolicy";
                is_gone(self.caller.write(&attempt, action, &pen, delete).await)?;
            }
            ScalingStep::Deregister(target) => {
                let attempt = format!("have {} no longer scaled", id(target));
                let whose = keep_names(target, &[]);
                let deregister = || {
                    exchange(Some(&whose), |exchange| {
                        let deregister = self.client.deregister_scalable_target();
                        deregister.customize().interceptor(exchange).send()
                    })
                };
                let action = "application-autoscaling:DeregisterScalableTarget";
                is_gone(self.caller.write(&attempt, action, &pen, deregister).await)?;
            }
        }
        Ok(())
    }
}

/// The fields by which something is deleted.
fn keep_names(document: &Value, more: &[&str]) -> Value {
    let mut names = document.clone();
    if let Some(fields) = names.as_object_mut() {
        let by_all = ["ServiceNamespace", "ResourceId", "ScalableDimension"];
        fields.retain(|key, _| by_all.contains(&key.as_str()) || more.contains(&key.as_str()));
    }
    names
}

/// What is gone already need not be removed.
fn is_gone<T>(removed: Result<T, Failure>) -> Result<(), Failure> {
    match removed {
        Err(failure) if !failure.is(&["ObjectNotFoundException"]) => Err(failure),
        _ => Ok(()),
    }
}
