// Package host reads what a Linux machine is: kernel, processor, memory, limits, clock, the mount that a directory lies on and how fast that
// disk makes bytes durable. `weir doctor`, `weir explain` and the bench use it. It has no goroutines and no state.
package host
