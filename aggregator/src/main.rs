//! The `picket-aggregator` binary; everything is in the library.

use std::process::ExitCode;

/// Parsing an event makes hundreds of small allocations that are freed on another thread; glibc's allocator keeps them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    picket_aggregator::cli::main()
}
