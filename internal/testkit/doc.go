// Package testkit holds small helpers shared by the tests of several
// packages: waiting for a condition without a timing assertion, seeds that
// are printed and can be given again, random bytes.
//
// Place in the path: tests only. Goroutines: none. Locks: none.
package testkit
