//! Runs a test file once for each instruction set.

use kinora_kernels::{Isa, isa};
use std::io::Write;
use std::process::Command;

/// Runs every other test of this file in a process of its own for each path that this machine has.
///
/// The path is chosen once a process, hence the processes. A path that is not available (AMX on most machines) is
/// named on stderr past the test harness, which would hide it.
pub fn every_other_test_on_every_path(this: &str) {
    for path in Isa::ALL {
        if !path.available() {
            let _ = writeln!(std::io::stderr(), "not tested: this machine has no {}", path.name());
            continue;
        }
        let mut tests = Command::new(std::env::current_exe().unwrap());
        let output = tests.args(["--skip", this]).env("KINORA_ISA", path.name()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}:\n{text}{}", path.name(), String::from_utf8_lossy(&output.stderr));
        assert!(!text.contains("running 0 tests"), "{text}");
    }
}

/// Fails when a path was asked for and another is in use.
pub fn check_path() {
    if let Ok(name) = std::env::var("KINORA_ISA") {
        assert_eq!(isa().name(), name);
    }
}
