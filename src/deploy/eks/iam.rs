//! What the roles of a service on EKS have to be allowed in AWS. Inside of the cluster its access
//! entry decides: docs/iam.md. Pure.

use crate::aws::policy::Statement;
use crate::config::platform::{Eks as Platform, Records};
use crate::deploy::Order;
use crate::deploy::iam::{Policies, base_of, collect_policies, list_common, list_running};

/// The policies of the roles that deploy, plan, and are the pods'.
pub fn render_policies(order: &Order, platform: &Platform, records: Option<&Records>) -> Policies {
    let cluster = match platform.cluster.starts_with("arn:") {
        true => platform.cluster.clone(),
        false => base_of(&order.destination).arn("eks", &format!("cluster/{}", platform.cluster)),
    };
    let mut deploy = list_common(order, records);
    deploy.push(Statement::allow("Cluster", &["eks:DescribeCluster"], cluster));
    collect_policies(deploy, [("pod", list_running(order))])
}
