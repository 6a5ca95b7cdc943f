// Package invariants holds one constant, Enabled, set by the build tag
// `invariants`. Code guards checks that are too dear for production with it:
//
//	if invariants.Enabled && off < prev {
//		panic("BUG: offset went backwards")
//	}
//
// The compiler removes the branch when the tag is off. A guard may only check
// and panic: it never changes what the code does, so that what is tested with
// the tag is what runs without it.
//
// Place in the path: a leaf, imported by everybody. Goroutines: none.
// Locks: none.
package invariants
