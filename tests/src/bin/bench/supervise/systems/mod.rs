//! rbee-hive, the bare loop, and the peers.

mod bare;
mod pm2;
mod rbee;
mod runit;
mod s6;
mod supervisord;

use super::system::System;

/// The name of the bare loop, which all others are compared with.
pub const BARE: &str = "bare loop";

/// All there are, the bare loop first.
pub fn all() -> Vec<Box<dyn System>> {
    vec![
        Box::new(bare::Bare),
        Box::new(rbee::Rbee::new()),
        Box::new(s6::S6),
        Box::new(runit::Runit),
        Box::new(supervisord::Supervisord::new()),
        Box::new(pm2::Pm2),
    ]
}
