// Package clock is how every package of weir reads the time.
//
// Production code takes a Clock in its options and gets Real; tests give a
// Fake and move it by hand, so that a test of a ten-minute timeout takes no
// time and does not depend on a quiet host.
//
// Place in the path: a leaf, imported by everybody, imports nothing of ours.
//
// Goroutines: Real starts none of its own (the runtime's timers run
// AfterFunc callbacks each in its own goroutine). Fake starts none: callbacks
// run in the goroutine that calls Advance.
//
// Locks: Fake has one mutex, never held while a callback runs.
package clock
