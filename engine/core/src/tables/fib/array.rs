//! An exact-size array of plain data behind one pointer.
//!
//! The header in front of the elements is 8 bytes: how many there are, and
//! the stamp of the epoch that made the array. An array is changed in place
//! only by the epoch that made it; any other makes its own copy and hands the
//! old one in, to be freed once no copy of the table can read it (see
//! [`epoch`](super::epoch)). Nothing is allocated for an empty array.
//!
//! Arrays are plain pointers, copied freely, and do not free themselves. The
//! table upholds that whatever is reachable from its root is not freed.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use super::epoch::Change;

/// Bytes of the header.
const HEADER: usize = size_of::<u64>();
/// Bits of the header that hold the length, the lowest ones.
const LENGTH_BITS: u32 = 8;

#[cfg(test)]
thread_local! {
    /// Bytes of arrays that this thread has made and not freed.
    pub(super) static LIVE_BYTES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// An array; see the module.
#[derive(Debug)]
pub(super) struct Array<T> {
    /// The first element, behind the header.
    elements: Option<NonNull<T>>,
}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Array<T> {}

impl<T> Default for Array<T> {
    fn default() -> Self {
        Self { elements: None }
    }
}

// SAFETY: an array is read by several threads only while nobody changes it:
// that takes the table that made it, borrowed exclusively, and no copy of it.
unsafe impl<T: Send + Sync> Send for Array<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Array<T> {}

impl<T: Copy> Array<T> {
    /// All elements.
    #[inline]
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: what is reachable is not freed; there are as many elements
        // as the header says, all of them written when the array was made.
        self.elements.map_or(&[], |first| unsafe {
            std::slice::from_raw_parts(first.as_ptr(), length_of(header(first)))
        })
    }

    /// The element at `index`, without asking how many there are.
    ///
    /// # Safety
    /// `index` is below the length.
    #[inline(always)]
    pub unsafe fn get_unchecked(&self, index: usize) -> &T {
        debug_assert!(index < self.as_slice().len());
        // SAFETY: there is an element, so there is an array, and the index is
        // within it, as the caller says.
        unsafe { self.elements.unwrap_unchecked().add(index).as_ref() }
    }

    /// The stamp of the epoch that made it; 0 for an empty one.
    pub fn stamp(&self) -> u64 {
        // SAFETY: what is reachable is not freed.
        self.elements.map_or(0, |first| unsafe { header(first) } >> LENGTH_BITS)
    }

    /// Bytes it asks of the allocator.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        match self.as_slice() {
            [] => 0,
            elements => HEADER + size_of_val(elements),
        }
    }

    /// The elements, to change: in a copy, if this epoch has not made them.
    pub fn edit(&mut self, change: &mut Change<'_>) -> &mut [T] {
        let Some(mut first) = self.elements else { return &mut [] };
        let length = self.as_slice().len();
        if self.stamp() != change.stamp {
            let old = std::mem::replace(self, Self::build(length, change, |at| self.as_slice()[at]));
            change.discard(old);
            first = self.elements.unwrap_or(first);
        }
        // SAFETY: this epoch has made the array, so that no copy of the table
        // has it, and the table is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(first.as_ptr(), length) }
    }

    /// Puts an element at `index`, which is at most the length.
    pub fn insert(&mut self, index: usize, element: T, change: &mut Change<'_>) {
        let old = *self;
        let elements = old.as_slice();
        *self = Self::build(elements.len() + 1, change, |at| match at.cmp(&index) {
            std::cmp::Ordering::Less => elements[at],
            std::cmp::Ordering::Equal => element,
            std::cmp::Ordering::Greater => elements[at - 1],
        });
        change.discard(old);
    }

    /// Takes out the element at `index`.
    pub fn remove(&mut self, index: usize, change: &mut Change<'_>) {
        let old = *self;
        let elements = old.as_slice();
        let length = elements.len().saturating_sub(1);
        *self = Self::build(length, change, |at| elements[if at < index { at } else { at + 1 }]);
        change.discard(old);
    }

    /// An array of its own of what `pick` says of each element.
    pub fn build(length: usize, change: &mut Change<'_>, mut pick: impl FnMut(usize) -> T) -> Self {
        if length == 0 {
            return Self::default();
        }
        let layout = Self::layout(length);
        // SAFETY: the size is not 0: there is a header.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        // SAFETY: the layout has room for the header and then the elements,
        // and begins at an address that is right for both: see `layout`.
        let first = unsafe {
            start.cast::<u64>().write(change.stamp << LENGTH_BITS | length as u64);
            start.add(HEADER).cast::<T>()
        };
        for at in 0..length {
            let element = pick(at);
            // SAFETY: the layout has room for `length` elements.
            unsafe { first.add(at).write(element) };
        }
        *change.bytes += layout.size();
        #[cfg(test)]
        LIVE_BYTES.with(|live| live.set(live.get().wrapping_add(layout.size())));
        Self { elements: Some(first) }
    }

    /// What to free it by; `None` for an empty one.
    pub fn into_block(self) -> Option<Block> {
        let first = self.elements?;
        let layout = Self::layout(self.as_slice().len());
        // SAFETY: the header is in front of the elements.
        Some(Block { start: unsafe { first.cast::<u8>().sub(HEADER) }, layout })
    }

    fn layout(length: usize) -> Layout {
        const {
            // The header keeps the elements aligned, and they it.
            assert!(align_of::<T>() <= HEADER);
        }
        assert!(length < 1 << LENGTH_BITS, "a node has at most 64 values and as many children");
        let size = HEADER + length * size_of::<T>();
        Layout::from_size_align(size, HEADER).expect("a few KiB are a valid size")
    }
}

/// The header in front of an array's first element.
///
/// # Safety
/// It is the first element of an array that is not freed.
#[inline]
unsafe fn header<T>(first: NonNull<T>) -> u64 {
    // SAFETY: `build` has put it there.
    unsafe { first.cast::<u64>().sub(1).read() }
}

fn length_of(header: u64) -> usize {
    (header & ((1 << LENGTH_BITS) - 1)) as usize
}

/// The memory of an array.
#[derive(Debug)]
pub(super) struct Block {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it is memory that nobody reads or writes any more but to free it.
unsafe impl Send for Block {}

impl Block {
    /// Bytes it asked of the allocator.
    pub fn bytes(&self) -> usize {
        self.layout.size()
    }

    /// Gives it back to the allocator.
    ///
    /// # Safety
    /// Nobody can reach the array any more.
    pub unsafe fn free(self) {
        #[cfg(test)]
        LIVE_BYTES.with(|live| live.set(live.get().wrapping_sub(self.layout.size())));
        // SAFETY: `build` has allocated it with this layout, and as blocks
        // are not copied, it is freed once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}
