// Package lint holds the house rules as tests: which package may import which, how long files and functions may grow, that
// every package has a doc.go and every exported identifier a comment (methods of interfaces and numbers in structs included), that
// ARCHITECTURE.md's map is the tree and its import table the one that is enforced, and that documents link to files that exist.
// It has no code of its own; run it with `go test ./internal/lint`.
package lint
