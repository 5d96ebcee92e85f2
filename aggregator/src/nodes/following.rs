//! Following what other nodes change: project configuration. And saying that this one is there.
//!
//! Revocations are followed by intake, which looks at the registry every two seconds whoever changed it; join tokens, users and
//! issues are read from the database each time.

use std::time::Duration;

use picket_common::timestamp::Timestamp;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Node;
use crate::projects::Projects;
use crate::quota::{Company, QuotaAuthority};

/// How often the configuration's revision is looked at: what a change at another node takes at most to get to the relays here.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Looks from one note that the node is there to the next.
const LOOKS_A_TOUCH: u32 = 5;

/// What is followed.
#[derive(Debug)]
pub struct Following {
    /// This node.
    pub node: Node,
    /// What relays are told of projects.
    pub projects: Projects,
    /// Divides limits otherwise where there are other nodes.
    pub quotas: QuotaAuthority,
}

/// Follows until `stop`. While the database is away nothing changes there either.
pub async fn follow(following: Following, stop: CancellationToken) {
    let Following { node, projects, quotas } = following;
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut looks, mut is_away) = (0_u32, false);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let looked = async {
            projects.refresh().await.map_err(|error| error.to_string())?;
            if looks % LOOKS_A_TOUCH == 0 {
                let nodes = node.touch(Timestamp::now()).await.map_err(|error| error.to_string())?;
                quotas.set_company(if nodes > 1 { Company::Others } else { Company::Alone });
            }
            Ok::<_, String>(())
        };
        match (looked.await, is_away) {
            (Err(error), false) => {
                warn!(error, "the other nodes' changes can't be followed, the database is away");
                is_away = true;
            }
            (Ok(()), true) => {
                info!("the other nodes' changes are followed again");
                is_away = false;
            }
            _ => {}
        }
        looks = looks.wrapping_add(1);
    }
}
