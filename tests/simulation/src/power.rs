//! Power that is cut: a process ends between any two of its steps, and nothing after that step happens.
//!
//! A [`Fuse`] is burnt by every step that leaves a trace outside the process: before and after each write to a disk, and before and
//! after each effect on a table. When it is at its end, the step unwinds ([`until_cut`] catches that); what was written or sent before
//! stays so.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// No end in sight.
const OUT: u32 = u32::MAX;

/// The power was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowerCut;

/// See the module. Clones share it.
#[derive(Debug, Clone)]
pub struct Fuse(Arc<AtomicU32>);

impl Default for Fuse {
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(OUT)))
    }
}

// === impl Fuse ===

impl Fuse {
    /// The power will be cut after so many steps.
    pub fn light(&self, steps: u32) {
        self.0.store(steps, Ordering::Relaxed);
    }

    /// The power stays on.
    pub fn put_out(&self) {
        self.0.store(OUT, Ordering::Relaxed);
    }

    /// A step.
    pub fn burn(&self) {
        match self.0.load(Ordering::Relaxed) {
            OUT => {}
            0 => {
                self.put_out();
                // Not a panic: no hook is called.
                resume_unwind(Box::new(PowerCut));
            }
            left => self.0.store(left - 1, Ordering::Relaxed),
        }
    }
}

/// Works until that ends or the power is cut.
///
/// # Errors
/// [`PowerCut`].
///
/// # Panics
/// As `work` does for any other reason.
pub fn until_cut<T>(work: impl FnOnce() -> T) -> Result<T, PowerCut> {
    // Whatever is left half done is what a power cut leaves: memory goes with the process, disks are whole between steps.
    catch_unwind(AssertUnwindSafe(work)).map_err(|cause| match cause.downcast::<PowerCut>() {
        Ok(cut) => *cut,
        Err(other) => resume_unwind(other),
    })
}
