//! Capture files in the classic format of libpcap, Ethernet.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Times in microseconds, as we write them.
const MICROSECONDS: u32 = 0xA1B2_C3D4;
/// Times in nanoseconds, as DPDK writes them.
const NANOSECONDS: u32 = 0xA1B2_3C4D;
/// Bytes of the file's header.
const FILE_HEADER: usize = 24;
/// Bytes of a packet's header.
const PACKET_HEADER: usize = 16;
const LINK_ETHERNET: u32 = 1;
/// Longest frame that a file may hold, bytes.
const SNAP_LENGTH: u32 = 65_535;

/// Writes frames to a new file.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, frames: impl Iterator<Item = Vec<u8>>) -> Result<()> {
    let cannot = || format!("cannot write {}: is there room?", path.display());
    let mut file = BufWriter::new(File::create(path).with_context(cannot)?);
    let mut header = MICROSECONDS.to_le_bytes().to_vec();
    header.extend_from_slice(&[2, 0, 4, 0]);
    header.extend_from_slice(&[0; 8]);
    header.extend_from_slice(&SNAP_LENGTH.to_le_bytes());
    header.extend_from_slice(&LINK_ETHERNET.to_le_bytes());
    file.write_all(&header).with_context(cannot)?;
    for frame in frames {
        let length = u32::try_from(frame.len()).context("a frame of 4 GiB")?.to_le_bytes();
        let header = [[0; 4], [0; 4], length, length].concat();
        file.write_all(&header).and_then(|()| file.write_all(&frame)).with_context(cannot)?;
    }
    file.flush().with_context(cannot)
}

/// Reads the frames of a file; a last one that was cut off is left out.
///
/// # Errors
/// When there is no such file, or it is no capture.
pub fn read(path: &Path) -> Result<Vec<Vec<u8>>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let word = |at: usize| -> Option<usize> {
        let four = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(four.try_into().ok()?) as usize)
    };
    ensure!(
        bytes.len() >= FILE_HEADER
            && [MICROSECONDS, NANOSECONDS].map(|magic| Some(magic as usize)).contains(&word(0)),
        "{} is no capture file of this machine's byte order",
        path.display()
    );
    let mut frames = Vec::new();
    let mut at = FILE_HEADER;
    while let Some(length) = word(at + 8) {
        at += PACKET_HEADER;
        let Some(frame) = bytes.get(at..at + length) else { break };
        frames.push(frame.to_vec());
        at += length;
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let path = std::env::temp_dir().join(format!("tieline-rig-pcap-test.{}", std::process::id()));
        let frames = vec![vec![1; 60], vec![], vec![3; 1514]];
        write(&path, frames.clone().into_iter()).expect("written");
        let all = read(&path).expect("a good file");
        let bytes = std::fs::read(&path).expect("there");
        std::fs::write(&path, &bytes[..bytes.len() - 1]).expect("cut");
        let cut = read(&path).expect("still a good file");
        std::fs::write(&path, b"no capture").expect("written");
        let error = read(&path).expect_err("no capture file");
        let _ = std::fs::remove_file(&path);
        assert_eq!(all, frames);
        assert_eq!(cut, frames[..2]);
        assert!(error.to_string().contains("no capture file"));
    }
}
