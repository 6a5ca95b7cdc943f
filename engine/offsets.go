package engine

// Offsets is a snapshot of a log's offsets. All are exclusive ends except LogStart, which is the first readable offset.
// LogStart <= LastStable <= HighWatermark <= LogEnd, and Durable <= LogEnd.
type Offsets struct {
	// LogStart is the first offset that may be read.
	LogStart int64
	// LastStable is the end for read_committed: no transaction below it is open.
	LastStable int64
	// HighWatermark is the end for consumers.
	HighWatermark int64
	// Durable is the end of what has been fsynced.
	Durable int64
	// LogEnd is the offset that the next record gets.
	LogEnd int64
}
