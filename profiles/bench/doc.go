// Package benchprofiles holds the workloads of `weir bench` as readable files and embeds them into the binary, so that they
// can be run and copied anywhere. The format is described at bench.Profile. It has no goroutines and no locks.
//
// Place in the path: cmd/weir reads a profile by name here, or a file of the user's, and hands the text to package bench.
package benchprofiles
