//! Hugepages that the kernel has to give.

use std::fs;
use std::path::Path;

/// MiB of free hugepages of all sizes; 0 if the kernel has none.
pub(crate) fn free_mib() -> u64 {
    free_mib_in(Path::new("/sys/kernel/mm/hugepages"))
}

/// As [`free_mib`], for a directory of the kernel's shape: one directory
/// "hugepages-2048kB" a size, with a file "free_hugepages".
fn free_mib_in(directory: &Path) -> u64 {
    let Ok(sizes) = fs::read_dir(directory) else { return 0 };
    let kib: u64 = sizes
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let page_kib: u64 =
                name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let count: u64 =
                fs::read_to_string(entry.path().join("free_hugepages")).ok()?.trim().parse().ok()?;
            page_kib.checked_mul(count)
        })
        .fold(0, u64::saturating_add);
    kib / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_all_sizes_count() {
        let root = std::env::temp_dir().join(format!("tieline-hugepages-{}", std::process::id()));
        for (size, free) in [("hugepages-2048kB", "3\n"), ("hugepages-1048576kB", "1\n"), ("other", "9\n")] {
            fs::create_dir_all(root.join(size)).expect("a directory");
            fs::write(root.join(size).join("free_hugepages"), free).expect("a file");
        }
        assert_eq!(free_mib_in(&root), 6 + 1024);
        fs::remove_dir_all(&root).expect("cleaned up");
        assert_eq!(free_mib_in(&root), 0);
    }
}
