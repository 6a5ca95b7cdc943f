// Package lint holds the house rules as tests: which package may import which, how long files and functions may grow, that
// every package and every exported identifier is documented, that ARCHITECTURE.md's map is the tree, and that documents link to
// files that exist. It has no code of its own; run it with `go test ./internal/lint`.
package lint
