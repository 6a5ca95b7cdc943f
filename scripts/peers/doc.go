// Package peers holds the scripts that install and start peer brokers, and embeds them into the binary, so that
// `weir bench --peer kafka` works anywhere. It has no goroutines and no locks.
package peers
