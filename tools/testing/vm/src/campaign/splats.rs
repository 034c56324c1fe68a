// SPDX-License-Identifier: GPL-2.0

//! Whose fault a complaint of the kernel is: ours if our code is in its trace.

use vm_common::judge::{
    self,
    Judge, //
};

/// Most lines of a complaint with its trace.
const TRACE: usize = 80;

/// The driver that the lines of a complaint are about. One with a trace that our code is not in
/// is about C, be it the driver or the kernel around it. One without a trace is blamed on ours,
/// unless it names the C driver alone.
fn driver(lines: &[&str]) -> &'static str {
    let says = |text: &str| lines.iter().any(|line| line.contains(text));
    // Functions of a driver in C, or of VFIO's part of it, have its name or that of its module.
    let c = says("[mlx5_vfio_pci]") || says("mlx5vf_") || says("Call Trace:");
    let ours = says("vfio_rust") || says("mlx5_vfio_pci_rust") || says("vfio_ivshmem_rust");
    match c && !ours {
        true => "c",
        false => "rust",
    }
}

/// The driver of each complaint of a console that no test has announced.
pub fn drivers(console: &str) -> Vec<&'static str> {
    let lines: Vec<&str> = console.lines().collect();
    let mut judge = Judge::default();
    let faults: Vec<usize> = (0..lines.len())
        .filter(|at| judge.is_fault(lines[*at]))
        .collect();
    let ends = faults.iter().skip(1).copied().chain([lines.len()]);
    let of_fault = |(at, end): (&usize, usize)| {
        let trace = &lines[*at..end.min(at + TRACE)];
        let mark = trace.iter().position(|line| line.contains(judge::MARK));
        driver(&trace[..mark.unwrap_or(trace.len())])
    };
    faults.iter().zip(ends).map(of_fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_in_a_trace_is_blamed() {
        let console = "\
            [ 1.0] WARNING: CPU: 0\n\
            [ 1.1]  mlx5vf_save_fops+0x1 [mlx5_vfio_pci]\n\
            [ 1.2] WARNING: CPU: 0\n\
            [ 1.3]  f+0x1 [mlx5_vfio_pci_rust]\n\
            [ 1.4]  mlx5vf_save_fops+0x1 [mlx5_vfio_pci]\n\
            [ 1.5] BUG: nobody\n\
            [ 1.6] vmtest: begin a\n\
            [ 1.7] [mlx5_vfio_pci]\n\
            [ 1.8] vmtest: expect BUG:\n\
            [ 1.9] BUG: announced\n\
            [ 2.0] vmtest: begin b\n\
            [ 2.1] WARNING: fs/kernfs/dir.c\n\
            [ 2.2] Call Trace:\n\
            [ 2.3]  kernfs_remove+0x1\n\
            [ 2.4] WARNING: mm/slub.c\n\
            [ 2.5] Call Trace:\n\
            [ 2.6]  f+0x1 [vfio_ivshmem_rust]\n";
        assert_eq!(drivers(console), ["c", "rust", "rust", "c", "rust"]);
    }
}
