//! The `picket-aggregator` binary; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    picket_aggregator::cli::main()
}
