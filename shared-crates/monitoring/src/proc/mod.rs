//! What daemons use, as the kernel tells it: round by round for the history, and at once when somebody asks.

mod disk;
mod files;
mod now;
mod rounds;
mod tree;

pub use disk::Disk;
pub use now::Sampler;
pub use rounds::Rounds;
pub use tree::Target;
