//! placeholder
use std::io;
use std::path::Path;
/// x
pub fn write_atomic(path: &Path, content: &[u8], _mode: u32) -> io::Result<()> {
    #[allow(clippy::disallowed_methods)]
    std::fs::write(path, content)
}
/// x
pub fn create_private(path: &Path, content: &[u8]) -> io::Result<()> {
    #[allow(clippy::disallowed_methods)]
    std::fs::write(path, content)
}
/// x
pub fn read_private(path: &Path, _max: usize) -> io::Result<Vec<u8>> {
    std::fs::read(path)
}
