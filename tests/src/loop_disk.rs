//! An ext4 file system in an image file, and copies of the image as a power cut would leave the disk.
//!
//! ```text
//! relay ─▶ ext4 (mounted) ─▶ loop device ─▶ image file ── cp ─▶ copy ─▶ mounted: the journal is replayed ─▶ relay
//!          what was not synced stays in its page cache          └─ has what reached the device, nothing else
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::Finished;

/// Seconds between ext4's own commits: longer than the tests, so that only the program's fsync brings data to the device.
const COMMIT_INTERVAL_SECONDS: u32 = 300;

/// A mounted image. Unmounted when dropped.
#[derive(Debug)]
pub struct LoopDisk {
    image: PathBuf,
    mount_point: PathBuf,
}

impl LoopDisk {
    /// Makes an image of `mebibytes` named `name` in `directory` and mounts it.
    ///
    /// # Errors
    /// Why this machine does not let us, in words for a person: no root, or no loop devices.
    pub fn create(directory: &Path, name: &str, mebibytes: u64) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("mounting a disk image needs root".to_owned());
        }
        let image = directory.join(format!("{name}.img"));
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(mebibytes * 1024 * 1024).map_err(|error| error.to_string())?;
        // All of the inode tables now: else the kernel writes them in the background while the test runs.
        command(
            Command::new("mkfs.ext4").args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"]).arg(&image),
        )?;
        Self::mount(image, directory.join(name))
    }

    /// Copies the image as it is at this instant and mounts the copy. Whoever writes to the disk must be stopped meanwhile.
    ///
    /// # Errors
    /// What failed.
    pub fn copy_as_after_a_power_cut(&self, directory: &Path, name: &str) -> Result<Self, String> {
        let copy = self.copy_image(directory, name)?;
        Self::mount(copy, directory.join(name))
    }

    /// Copies the image as it is at this instant.
    ///
    /// # Errors
    /// What failed.
    pub fn copy_image(&self, directory: &Path, name: &str) -> Result<PathBuf, String> {
        let copy = directory.join(format!("{name}.img"));
        command(Command::new("cp").arg("--sparse=always").arg(&self.image).arg(&copy))?;
        Ok(copy)
    }

    /// Mounts an image.
    ///
    /// # Errors
    /// What failed.
    pub fn mount(image: PathBuf, mount_point: PathBuf) -> Result<Self, String> {
        std::fs::create_dir_all(&mount_point).map_err(|error| error.to_string())?;
        let options = format!("loop,commit={COMMIT_INTERVAL_SECONDS}");
        command(Command::new("mount").args(["-t", "ext4", "-o", &options]).arg(&image).arg(&mount_point))?;
        Ok(Self { image, mount_point })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mount_point
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        if let Err(problem) = command(Command::new("umount").arg(&self.mount_point)) {
            eprintln!("{} stays mounted: {problem}", self.mount_point.display());
        }
    }
}

fn command(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    if !which(&program) {
        return Err(format!("there is no {program} on this machine"));
    }
    let finished = Finished::of(command);
    if finished.code == Some(0) { Ok(()) } else { Err(format!("{program} failed: {}", finished.stderr.trim())) }
}

fn which(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).exists())
}
