//! An exact-size array behind one pointer, shared until it is changed.
//!
//! The header in front of the elements is 16 bytes: the reference count and
//! the length. Copies share it; a change first makes it the only one. Nothing
//! is allocated for an empty array.

use triomphe::{Arc, ThinArc};

/// What an array can hold.
pub(super) trait Element: Clone {
    /// Moves it out of an array that is about to be dropped.
    fn take(&mut self) -> Self;
}

/// An array; see the module.
#[derive(Debug, Clone)]
pub(super) struct Array<T>(Option<ThinArc<(), T>>);

impl<T> Default for Array<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Array<T> {
    /// All elements.
    #[inline]
    pub fn as_slice(&self) -> &[T] {
        self.0.as_ref().map_or(&[], |array| &array.slice)
    }

    /// The element at `index`, without asking how many there are: the length
    /// stands in front of the elements, mostly in another cache line.
    ///
    /// # Safety
    /// `index` is below the length.
    #[inline(always)]
    pub unsafe fn get_unchecked(&self, index: usize) -> &T {
        debug_assert!(index < self.as_slice().len());
        // SAFETY: there is an element, so there is an array, and the index is
        // within it, as the caller says.
        unsafe { self.0.as_ref().unwrap_unchecked().slice.get_unchecked(index) }
    }

    /// Whether no other table shares it.
    pub fn is_unique(&self) -> bool {
        self.0.as_ref().is_none_or(|array| array.with_arc(Arc::is_unique))
    }

    /// Bytes it asks of the allocator.
    pub fn bytes(&self) -> usize {
        match self.as_slice() {
            [] => 0,
            elements => 2 * size_of::<usize>() + size_of_val(elements),
        }
    }
}

impl<T: Element> Array<T> {
    /// Changes elements in place, in a copy if others share them.
    pub fn edit<R>(&mut self, change: impl FnOnce(&mut [T]) -> R) -> R {
        let shared = !self.is_unique();
        let Some(array) = &mut self.0 else { return change(&mut []) };
        if shared {
            *array = ThinArc::from_header_and_iter((), array.slice.iter().cloned());
        }
        array.with_arc_mut(|array| {
            let array = Arc::get_mut(array).expect("an array that was just made unique is not shared");
            change(array.slice_mut())
        })
    }

    /// Puts an element at `index`, which is at most the length.
    pub fn insert(&mut self, index: usize, element: T, bytes: &mut usize) {
        let length = self.as_slice().len() + 1;
        let mut element = Some(element);
        self.rebuild(length, bytes, |old, at| {
            if at < index { take(old, at) } else { element.take().or_else(|| take(old, at - 1)) }
        });
    }

    /// Takes out the element at `index`.
    pub fn remove(&mut self, index: usize, bytes: &mut usize) {
        let length = self.as_slice().len().saturating_sub(1);
        self.rebuild(length, bytes, |old, at| take(old, if at < index { at } else { at + 1 }));
    }

    /// Replaces the array by one of `length` elements; `pick` is asked for
    /// each in turn.
    fn rebuild(
        &mut self,
        length: usize,
        bytes: &mut usize,
        mut pick: impl FnMut(&mut Source<'_, T>, usize) -> Option<T>,
    ) {
        *bytes -= self.bytes();
        let mut build = |mut source: Source<'_, T>| {
            (length > 0).then(|| {
                ThinArc::from_header_and_iter(
                    (),
                    (0..length).map(|at| {
                        pick(&mut source, at).expect("an array is rebuilt from at most its own elements")
                    }),
                )
            })
        };
        self.0 = if self.is_unique() {
            self.edit(|old| build(Source::Own(old)))
        } else {
            build(Source::Shared(self.as_slice()))
        };
        *bytes += self.bytes();
    }
}

/// Where the elements of a rebuilt array come from.
enum Source<'a, T> {
    Shared(&'a [T]),
    Own(&'a mut [T]),
}

fn take<T: Element>(source: &mut Source<'_, T>, at: usize) -> Option<T> {
    match source {
        Source::Shared(elements) => elements.get(at).cloned(),
        Source::Own(elements) => elements.get_mut(at).map(T::take),
    }
}
