// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of files on an anonymous inode, which are of the module that has them.

#[kernel::prelude::kunit_tests(vfio_rust_anon_inode)]
mod tests {
    use super::super::*;
    use crate::this_module;

    /// A file without contents, of this module if `OWN`, else of the kernel's image.
    struct Nothing<const OWN: bool>;

    impl<const OWN: bool> StreamFile for Nothing<OWN> {
        const OWNER: &'static ThisModule = if OWN {
            this_module!()
        } else {
            // SAFETY: The image of the kernel has no `struct module`: its `THIS_MODULE` is null.
            &unsafe { ThisModule::from_ptr(core::ptr::null_mut()) }
        };
        const NAME: &'static CStr = c"nothing";
        const ACCESS: Access = Access::Read;

        fn read(&self, _wait: Wait, _out: &mut UserWriter) -> Result<usize> {
            Ok(0)
        }

        fn write(&self, _wait: Wait, _from: &mut UserReader) -> Result<usize> {
            Ok(0)
        }

        fn ioctl(&self, _command: u32, _argument: usize) -> Result {
            Ok(())
        }

        fn poll(&self) -> Option<(&Changes, Readiness)> {
            None
        }
    }

    #[test]
    fn a_file_is_of_the_module_that_opens_it() {
        assert!(OpenFile::new(Nothing::<true>).is_ok());
        // If the test is built in, its file is of the kernel's image, too.
        let other = OpenFile::new(Nothing::<false>).err();
        assert_eq!(other, cfg!(MODULE).then_some(EINVAL));
    }

    #[test]
    fn a_call_says_no_more_than_was_asked_for() {
        assert_eq!(count(Ok(3), 4), 3);
        assert_eq!(count(Ok(5), 4), 4);
        assert_eq!(count(Ok(usize::MAX), 4), 4);
        assert_eq!(count(Err(ENODEV), 4), ENODEV.to_errno() as isize);
    }
}
