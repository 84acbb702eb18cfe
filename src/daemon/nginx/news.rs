//! What the daemon makes of what its nginx did: proofs for the fleet, events for people.

use crate::daemon::driver::Daemon;
use crate::daemon::nginx::News;

impl Daemon {
    pub(in crate::daemon) fn on_nginx(&mut self, news: News) {
        match news {
            News::Found { gateway, in_rotation } => {
                self.hands.front.nginx_found(&gateway, &in_rotation);
            }
            News::InForce { gateway, revision, in_flight } => {
                for input in self.hands.front.nginx_in_force(&gateway, revision, &in_flight) {
                    self.turn(input);
                }
            }
            News::Loaded { gateway } => {
                if self.hands.front.troubles.remove(&gateway).is_some() {
                    self.note("gateway", None, format!("nginx of gateway {gateway} follows again"));
                }
            }
            News::Refused { gateway, revision, why } => {
                let (inputs, is_new) = self.hands.front.nginx_refused(&gateway, revision, &why);
                if is_new {
                    let message = format!("gateway {gateway}: nginx was not changed: {why}");
                    self.note("gateway", None, message);
                }
                inputs.into_iter().for_each(|it| self.turn(it));
            }
            News::Counted(counts) => self.hands.front.nginx_counted(counts),
            News::Blind { gateway, why } => {
                let message = match why {
                    Some(why) => format!("gateway {gateway} is not counted: {why}"),
                    None => format!("gateway {gateway} is counted again"),
                };
                self.note("gateway", None, message);
            }
        }
        self.show_gateways();
    }
}
